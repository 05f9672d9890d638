-- What wrk sends: `-- distinct MARK`, `-- same MARK`, `-- unmatched MARK` or `-- mixed MARK`. MARK is new in each run,
-- so that nothing is remembered from another. At the end, one line of JSON.

local kind, mark, sent = "", "", 0
local filler = string.rep("a name for a cat that sleeps in the sun all day, ", 7)

local function post(path, text)
   local body = '{"message":"' .. string.sub(text .. filler, 1, 300) .. '"}'
   return wrk.format("POST", path, { ["Content-Type"] = "application/json" }, body)
end

local kinds = {
   distinct = function() return post("/chat", string.format("%s, number %d: ", mark, sent)) end,
   same = function() return post("/chat", mark .. ", again: ") end,
   unmatched = function() return post("/other", mark .. ", elsewhere: ") end,
   mixed = function()
      local turn = sent % 4
      return turn < 2 and post("/chat", string.format("%s, number %d: ", mark, sent))
         or post(turn == 2 and "/chat" or "/other", "again: ")
   end,
}

function init(args)
   kind, mark = args[1], args[2]
   local steady = (kind == "same" or kind == "unmatched") and kinds[kind]()
   request = function()
      sent = sent + 1
      return steady or kinds[kind]()
   end
end

function done(summary, latency)
   local failed = summary.errors
   io.write(string.format(
      '{"requests":%d,"seconds":%.6f,"refused":%d,"broken":%d,"p50":%.3f,"p99":%.3f}\n',
      summary.requests, summary.duration / 1e6, failed.status,
      failed.connect + failed.read + failed.write + failed.timeout,
      latency:percentile(50) / 1e3, latency:percentile(99) / 1e3))
end
