-- wrk script of signer-memory: each request by the next gateway of the file
-- TOKENS. KIND=sign: POST /v1/sign for the next storage; KIND=poll: GET
-- /v1/updates, later after the version that was answered.
local tokens, n = {}, 0
local kind = os.getenv("KIND")
local version = nil

function init(args)
	for line in io.lines(os.getenv("TOKENS")) do
		tokens[#tokens + 1] = line
	end
end

function request()
	n = n + 1
	local headers = {
		["Authorization"] = "Bearer " .. tokens[n % #tokens + 1],
		["Content-Type"] = "application/json",
	}
	if kind == "poll" then
		return wrk.format("GET", "/v1/updates" ..
		    (version and "?after=" .. version or ""), headers)
	end
	return wrk.format("POST", "/v1/sign", headers, string.format(
	    '{"uploads":[{"id":"%d","storage":"s%d","device":"cam-1",' ..
	    '"key":"cam-1/%d.jpg","size":100000}]}', n, n % 10, n))
end

function response(status, headers, body)
	if status ~= 200 or body:find('"error"', 1, true) then
		io.stderr:write("signer-memory.lua: ", status, " ", body:sub(1, 300), "\n")
		os.exit(1)
	end
	if kind == "poll" then version = body:match('"version":%s*(%d+)') end
end
