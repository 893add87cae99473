-- One route again and again. For wrk. Environment: LOGIN, the value of the Authorization header.

wrk.headers["Authorization"] = os.getenv("LOGIN")

function done(summary)
    local errors = summary.errors
    local wrong = errors.connect + errors.read + errors.write + errors.status
    io.write(string.format("RESULT %.6f %d\n", summary.requests / (summary.duration / 1e6), wrong))
end
