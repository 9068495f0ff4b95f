-- wrk script: PUTs of SIZE octets (100000) to names that never repeat, below the
-- path of the URL. CLOSE=1: a new connection for each, as simple cameras do.
local size = tonumber(os.getenv("SIZE") or "100000")
local close = os.getenv("CLOSE") == "1"
local run = os.time() .. "-" .. (os.getenv("RUN") or "0")
local threads = 0
local thread, n, body = 0, 0, ""

function setup(t)
	t:set("thread", threads)
	threads = threads + 1
end

function init(args)
	local f = io.open("/dev/urandom", "rb")
	body = "\255\216\255\224" .. f:read(size - 4)
	f:close()
	wrk.headers["Content-Type"] = "image/jpeg"
	if close then wrk.headers["Connection"] = "close" end
end

function request()
	n = n + 1
	return wrk.format("PUT", wrk.path .. run .. "-" .. thread .. "-" .. n ..
	    ".jpg", nil, body)
end

function response(status)
	if status >= 300 then bad = (bad or 0) + 1 end
end
