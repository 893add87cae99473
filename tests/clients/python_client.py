"""Run a job with a client that openapi-python-client has made; print its output and exit code."""

import os
import ssl

from generated import AuthenticatedClient
from generated.api.jobs import get_jobs_job_id, get_jobs_job_id_status, post_jobs_run
from generated.models import Brief, Job, JobSpec, JobSpecEnvType0, Status

trust = ssl.create_default_context(cafile=os.environ["WORKER_CACERT"])
scheme, _, token = os.environ["WORKER_LOGIN"].partition(" ")
client = AuthenticatedClient(
    base_url=os.environ["WORKER_URL"], token=token, prefix=scheme, verify_ssl=trust
)
environment = JobSpecEnvType0.from_dict({"GREETING": "hello"})
job = JobSpec(command="sh", args=["-c", "echo $GREETING; exit 3"], env=environment, cwd="/")
with client:
    created = post_jobs_run.sync(client=client, body=job)
    assert isinstance(created, Brief), created
    status = get_jobs_job_id_status.sync(str(created.id), client=client, wait=30.0)
    assert isinstance(status, Status), status
    record = get_jobs_job_id.sync(str(created.id), client=client)
    assert isinstance(record, Job), record
    assert record.spec.command == "sh"
    output = client.get_httpx_client().get(f"/jobs/{created.id}/out")
    print(output.json()["output"].strip(), status.exit_code)
