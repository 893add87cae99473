-- The same request again and again. For wrk.
-- Environment: LOGIN, the value of the Authorization header; JOB, the body of a POST if it is one.

wrk.headers["Authorization"] = os.getenv("LOGIN")
if os.getenv("JOB") then
    wrk.method = "POST"
    wrk.body = os.getenv("JOB")
    wrk.headers["Content-Type"] = "application/json"
end

function done(summary)
    local errors = summary.errors
    local wrong = errors.connect + errors.read + errors.write + errors.status
    io.write(string.format("RESULT %d %.6f %d\n", summary.requests, summary.duration / 1e6, wrong))
end
