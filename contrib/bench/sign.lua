-- wrk script: POST /v1/sign for BATCH uploads to STORAGE, by the token TOKEN.
local batch = tonumber(os.getenv("BATCH") or "1")
local storage = os.getenv("STORAGE")
local sha = string.rep("0123456789abcdef", 4)
local n = 0

wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
wrk.headers["Authorization"] = "Bearer " .. os.getenv("TOKEN")

function request()
	local list = {}
	for i = 1, batch do
		n = n + 1
		list[i] = string.format('{"id":"%d","storage":"%s","device":"cam-1",' ..
		    '"method":"PUT","key":"cam-1/2026-01-02/%d.jpg","size":100000,' ..
		    '"sha256":"%s","contentType":"image/jpeg"}', n, storage, n, sha)
	end
	return wrk.format(nil, "/v1/sign", nil,
	    '{"uploads":[' .. table.concat(list, ",") .. "]}")
end

-- One that is refused would be quick: there must be none.
function response(status, headers, body)
	if status ~= 200 or body:find('"error"', 1, true) then
		io.stderr:write("sign.lua: ", status, " ", body:sub(1, 300), "\n")
		os.exit(1)
	end
end
