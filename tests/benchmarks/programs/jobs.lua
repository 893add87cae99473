-- One job after another: POST it, then ask for its end. For wrk, with one connection a thread.
-- Environment: LOGIN, the value of the Authorization header.

local headers = { ["Authorization"] = os.getenv("LOGIN"), ["Content-Type"] = "application/json" }
local run = nil
local threads = {}
local waiting = nil
ended, failed = 0, 0

function setup(thread)
    table.insert(threads, thread)
end

function init()
    run = wrk.format("POST", "/jobs/run", headers, '{"command": "/bin/true"}')
end

function request()
    if waiting then
        return wrk.format("GET", "/jobs/" .. waiting .. "/status?wait=60", headers)
    end
    return run
end

function response(status, _, body)
    if status == 201 then
        waiting = body:match('"id": ?"([^"]+)"')
        return
    end
    waiting = nil
    if status == 200 and body:find('"completed"', 1, true) then
        ended = ended + 1
    else
        failed = failed + 1
    end
end

function done(summary)
    local all, wrong = 0, 0
    for _, thread in ipairs(threads) do
        all = all + thread:get("ended")
        wrong = wrong + thread:get("failed")
    end
    local errors = summary.errors
    wrong = wrong + errors.connect + errors.read + errors.write
    io.write(string.format("RESULT %d %.6f %d\n", all, summary.duration / 1e6, wrong))
end
