// Print the status of the first job that ends, as the onmessage of an EventSource receives it.
import { EventSource } from "eventsource";

const { WORKER_URL, WORKER_LOGIN } = process.env;
const source = new EventSource(`${WORKER_URL}/events?unnamed=true`, {
  fetch: (url, init) =>
    fetch(url, { ...init, headers: { ...init.headers, Authorization: WORKER_LOGIN } }),
});
source.onerror = (error) => {
  console.error(error);
  process.exit(1);
};
source.onopen = () => console.log("open");
source.onmessage = (event) => {
  const job = JSON.parse(event.data);
  if (job.ended_at) {
    console.log(job.status);
    source.close();
  }
};
