-- range.lua - wrk: a range of 8 KiB at a random place, each on a connection of
-- its own, as the smallest devices fetch
-- SIZE: octets of the file (environment)
local size = tonumber(os.getenv("SIZE"))
local blocks = math.floor(size / 8192)
math.randomseed(tonumber(os.getenv("RUN")) or 1)

request = function()
	local at = math.random(0, blocks - 1) * 8192
	return "GET " .. wrk.path .. " HTTP/1.1\r\nHost: bench\r\nRange: bytes="
	    .. at .. "-" .. (at + 8191) .. "\r\nConnection: close\r\n\r\n"
end
