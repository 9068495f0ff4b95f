# table.awk - the lines of the measures, as one table: value, limit, aim, ok
#
# Reads what the scripts print. A measure whose line did not come is told as
# missing, so nothing passes by being absent. Exit 1 if one is over its limit.

function after(word, skip,    i) {
	for (i = 1; i <= NF; i++)
		if ($i == word)
			return $(i + 1 + skip)
	return ""
}

function row(name, value, op, limit, aim,    ok) {
	seen[name] = 1
	ok = op == ">=" ? value + 0 >= limit + 0 : value + 0 <= limit + 0
	bad += !ok
	printf "%-46s %10s  %s %-7s %-5s %s\n", name, value, op, limit, aim,
	    !ok ? "NO" : aim == "" ? "ok" : \
	    (op == ">=" ? value + 0 >= aim + 0 : value + 0 <= aim + 0) ? \
	    "ok, aim reached" : "ok"
}

function expect(names,    list, n, i) {
	n = split(names, list, ";")
	for (i = 1; i <= n; i++)
		if (!(list[i] in seen)) {
			printf "%-46s %10s\n", list[i], "not measured"
			missing++
		}
}

BEGIN {
	printf "%-46s %10s  %-10s %-5s\n", "measure", "value", "limit", "aim"
}

/^put / {
	c = substr($2, 3)
	least["1"] = 0.3; least["256"] = 0.7
	row("durable PUT 100 KB, c=" c ", of nginx's", after("ratio"), ">=",
	    c in least ? least[c] : 0.8, c == "1" ? "" : "1.0")
	if (c == "64") {
		row("its p99, of nginx's",
		    sprintf("%.2f", after("p99", 1) / after("p99", 3)),
		    "<=", "1.0", "")
		row("its CPU a request, of nginx's", $NF, "<=", "2.0", "1.3")
	}
}

/^sd / {
	size = substr($2, 6)
	row("SD model, " size " octets, of the pool's", after("ratio"), ">=",
	    size == 100000 ? "2.0" : "2.5", size == 100000 ? "3.0" : "5.0")
}

/^amplification size/ {
	size = substr($2, 6)
	row("written a stored octet, " size, $4, "<=",
	    size == 20000 ? 1.55 : size == 100000 ? 1.15 : 1.02,
	    size == 20000 ? "1.40" : size == 100000 ? 1.08 : "")
}

/^amplification idle/ { row("written by an idle gateway", $3, "<=", 0, "") }

/^slow n=/ {
	split($0, two, "2xx=")
	row("slow uploaders without a 2xx", substr($2, 3) - (two[2] + 0), "<=",
	    0, "")
	row("  RssAnon, MB", sprintf("%.1f", after("most") / 1024), "<=", 16, 8)
	row("  p99 of PUTs beside them, ms", $NF, "<=", 250, "")
}

/^get-beside/ {
	row("GET beside 64 PUTs, " substr($2, 1, length($2) - 1) ", p99 ms",
	    after("p99"), "<=", 20, 5)
	printf "%-46s %10s\n", "  nginx's without PUTs of its own, p99 ms",
	    $(NF - 3)
}

/^firmware .* ratio / {
	name = $0
	sub(/^firmware /, "", name)
	sub(/ +edgehaul .*/, "", name)
	row("firmware " name ", of nginx's", after("ratio"), ">=", 0.9,
	    name ~ /16 MB/ ? 1.5 : "1.0")
}

/^firmware-cold edgehaul *five/ {
	row("firmware cold: requests of five devices", $4, "<=", 6, "")
	row("firmware cold: late first octet, s", after("byte"), "<=", 0.05, "")
}

/^firmware-cold edgehaul *tail/ {
	row("firmware cold: the last 64 KiB, s", $4, "<=", 0.3, "")
	row("firmware cold: fetched for them, MB", $6, "<=", 8, "")
}

/^deliver/ { row("delivery of 100 KB, of curl -Z 16", after("ratio"), ">=", 0.7, "1.0") }

/^million.*after a clean end/ {
	row("many waiting: ready, ms", after("in"), "<=", 1000, "")
}

/^million.*after kill -9/ {
	row("many waiting: ready after kill -9, ms", after("in"), "<=", 2000, "")
}

/^million: PUTs/ {
	row("many waiting: PUTs, of an empty spool's", after("ratio") + 0, ">=",
	    0.8, "")
	row("many waiting: RssAnon, MB",
	    sprintf("%.1f", after("RssAnon") / 1024), "<=", 16, "")
}

/^rebuild/ {
	row("index rebuilt while PUTs go on: ready, ms", after("in"), "<=",
	    5000, "")
}

/^sign .* ratio .*limit/ {
	limit = after("(limit")
	sub(/[,)].*/, "", limit)
	row("signing, " $2 ", of its peer's", after("ratio"), ">=", limit,
	    $2 == "s3" ? 100 : "")
}

END {
	expect("durable PUT 100 KB, c=1, of nginx's;durable PUT 100 KB, c=16, of nginx's;durable PUT 100 KB, c=64, of nginx's;durable PUT 100 KB, c=256, of nginx's;durable PUT 100 KB, c=64n, of nginx's;SD model, 100000 octets, of the pool's;SD model, 20000 octets, of the pool's;written a stored octet, 20000;written a stored octet, 100000;written a stored octet, 10000000;written by an idle gateway;slow uploaders without a 2xx;GET beside 64 PUTs, disk, p99 ms;GET beside 64 PUTs, sd, p99 ms;delivery of 100 KB, of curl -Z 16;many waiting: ready, ms;many waiting: ready after kill -9, ms;many waiting: PUTs, of an empty spool's")
	if (bad + missing > 0)
		printf "%d over their limits, %d not measured\n", bad, missing
	exit bad + missing > 0
}
