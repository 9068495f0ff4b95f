# common.bash - what the bench scripts share; sourced, never run
#
# Sets $here, $build, $dir (a folder below $BENCH_DIR that goes at the end) and
# $pids (killed at the end). Servers listen on loopback alone.
set -euo pipefail
PATH=$PATH:/usr/sbin
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
build=${BUILD:-$here/../../build}
build=$(cd "$build" && pwd)
me=$(basename "$0")
pids=() mounts=() loops=() slow=()
as=() # how servers and load are started: nothing, or chrt -r 1
ulimit -n "$(ulimit -Hn)"

need() { # PROGRAM...
	local program
	for program in "$@"; do
		command -v "$program" >/dev/null || {
			echo "$me: $program is missing; README.md tells which packages are needed" >&2
			exit 69
		}
	done
}

need_root() {
	[ "$(id -u)" = 0 ] || {
		echo "$me: root only (it mounts an image of its own through a loop device)" >&2
		exit 77
	}
}

clean_up() {
	local one
	for one in "${pids[@]}"; do kill "$one" 2>/dev/null || true; done
	for one in "${pids[@]}"; do wait "$one" 2>/dev/null || true; done
	for one in "${mounts[@]}"; do umount "$one" || umount -l "$one" || true; done
	for one in "${loops[@]}"; do losetup -d "$one" || true; done
	for one in "$dir"/*.fuse; do
		[ ! -d "$one" ] || fusermount3 -u "$one" || fusermount3 -uz "$one" || true
	done
	for one in "${slow[@]}"; do wait "$one" 2>/dev/null || true; done
	rm -rf "$dir"
}

dir=$(mktemp -d -p "${BENCH_DIR:-${TMPDIR:-/tmp}}" "bench-$me.XXXXXX")
chmod 755 "$dir"
# ext4 without a journal passes over every inode that was freed in the last
# minutes, one by one, before it makes a file: what ran here before would count
# against whoever's folder lies beside it. So each server's folder is put into a
# part of the disk of its own.
chattr +T "$dir" 2>/dev/null || true
trap clean_up EXIT
trap 'exit 130' INT TERM

stop() { # PID: end one server and wait for it
	kill "${2:--TERM}" "$1" 2>/dev/null || true
	wait "$1" 2>/dev/null || true
}

free_port() {
	local port
	for _ in $(seq 100); do
		port=$((15000 + RANDOM % 17000))
		(exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null || {
			echo "$port"
			return
		}
	done
}

listening() { # PORT
	for _ in $(seq 200); do
		! (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null || return 0
		sleep 0.05
	done
	echo "$me: nothing listens on port $1" >&2
	tail -n 5 "$dir"/*.log >&2 || true
	return 1
}

# nginx with dav_methods and one worker below FOLDER; $nginx is its pid.
start_nginx() { # FOLDER PORT
	mkdir -p "$1/www/up" "$1/tmp"
	cat >"$1/nginx.conf" <<-END
	worker_processes 1; daemon off; pid $1/nginx.pid;
	error_log $dir/nginx.log error;
	worker_rlimit_nofile 65536;
	events { worker_connections 20000; }
	http {
		access_log off; keepalive_requests 100000000;
		client_max_body_size 0; client_body_temp_path $1/tmp;
		client_body_timeout 600s;
		server {
			listen 127.0.0.1:$2 backlog=4096;
			location /up/ { root $1/www; dav_methods PUT; }
			location /sink/ { return 200; }
		}
	}
	END
	[ "$(id -u)" != 0 ] || sed -i '1i user root;' "$1/nginx.conf"
	"${as[@]}" nginx -e "$dir/nginx.log" -c "$1/nginx.conf" &
	nginx=$!
	pids+=("$nginx")
	listening "$2"
}

# gateway.conf below FOLDER; more lines of [spool] on stdin.
gateway_conf() { # FOLDER PORT SIGNER_URL
	mkdir -p "$1/state" "$1/run"
	echo none >"$1/token"
	cat >"$1/gateway.conf" <<-END
	[gateway]
	name = bench
	state_dir = $1/state
	run_dir = $1/run
	[listen]
	address = 127.0.0.1:$2
	[limits]
	max_connections = 8192
	[signer]
	url = $3
	token_file = $1/token
	[spool]
	max_size = 100 GB
	END
	cat >>"$1/gateway.conf"
}

start_proxy() { # FOLDER PORT, after gateway_conf; $proxy is its pid
	"${as[@]}" "$build/proxy/edgehaul-proxy" --config "$1/gateway.conf" \
	    2>>"$dir/proxy.log" &
	proxy=$!
	pids+=("$proxy")
	listening "$2"
}

# One round of wrk. Prints: requests per second, p99 in ms, CPU ms per request
# of process PID and its children.
round() { # URL CONNECTIONS SECONDS PID
	local before after
	before=$(cpu_ms "$4")
	RUN=$RANDOM "${as[@]}" wrk -t 1 -c "$2" -d "${3}s" --latency --timeout 60s \
	    -s "$here/put.lua" "$1" >"$dir/wrk.out"
	after=$(cpu_ms "$4")
	! grep -q 'Non-2xx' "$dir/wrk.out" || {
		cat "$dir/wrk.out" >&2
		return 1
	}
	awk -v cpu=$((after - before)) '
	function ms(t) {
		return t ~ /us$/ ? t / 1000 : t ~ /ms$/ ? t + 0 : t * 1000
	}
	$1 == "99%" { p99 = ms($2) }
	/ requests in / { n = $1 }
	/^Requests\/sec:/ { rate = $2 }
	END { printf "%.1f %.2f %.4f\n", rate, p99, (n > 0 ? cpu / n : 0) }
	' "$dir/wrk.out"
}

cpu_ms() { # PID: of it and its children, all threads
	local pid sum=0 hz
	hz=$(getconf CLK_TCK)
	for pid in $1 $(cat "/proc/$1/task/$1/children" 2>/dev/null); do
		sum=$((sum + $(sed 's/.*) //' "/proc/$pid/stat" |
		    awk '{ print $12 + $13 }')))
	done
	echo $((sum * 1000 / hz))
}

rss_anon_kb() { # PID
	awk '/^RssAnon:/ { print $2 }' "/proc/$1/status"
}

# Octets written to block device NAME (loop3) since it was made.
written() {
	sync -f "$2"
	awk '{ printf "%.0f\n", $7 * 512 }' "/sys/block/$1/stat"
}

median() { sort -g | awk '{ v[NR] = $1 } END { print v[int((NR + 1) / 2)] }'; }

column() { awk -v n="$2" '{ print $n }' "$1" | median; } # FILE N

ratio() { # FILE_A FILE_B N: median of the rounds' ratios of column N
	paste "$1" "$2" | awk -v n="$3" '{
		b = $(NF / 2 + n); print (b > 0 ? $n / b : 0) }' | median
}

compile() { # NAME [LIBRARIES...]: contrib/bench/NAME.c to $dir/NAME
	local name=$1
	shift
	need gcc
	gcc -O2 -Wall -o "$dir/$name" "$here/$name.c" "$@"
}

# An ext4 image of its own on a loop device, so that only what we measure
# counts. $disk: its folder, $device: its name.
mount_image() { # NAME SIZE [BACKING]
	local image=${3:-$dir/$1.img}
	need mkfs.ext4 losetup
	disk=$dir/$1
	mkdir "$disk"
	if [ $# -lt 3 ]; then
		truncate -s "$2" "$image"
		make_ext4 "$image"
	fi
	device=$(losetup -f --show "$image")
	loops+=("$device")
	mount -o noatime "$device" "$disk"
	mounts+=("$disk")
	device=$(basename "$device")
}

make_ext4() {
	mkfs.ext4 -q -F -E lazy_itable_init=0,lazy_journal_init=0,nodiscard "$1"
}

# The same over a disk of MBPS MB/s, OP us a write and FLUSH us a flush.
mount_slow() { # NAME SIZE MBPS OP FLUSH
	need fusermount3 pkg-config
	# shellcheck disable=SC2046
	compile slowdisk $(pkg-config --cflags --libs fuse3)
	truncate -s "$2" "$dir/$1.img"
	make_ext4 "$dir/$1.img"
	mkdir "$dir/$1.fuse"
	"$dir/slowdisk" "$dir/$1.img" "$3" "$4" "$5" "$dir/$1.fuse" &
	slow+=($!)
	# A disk does not wait for the CPU that others use.
	chrt -r -p 1 $! 2>/dev/null || true
	for _ in $(seq 100); do
		[ ! -e "$dir/$1.fuse/disk" ] || break
		sleep 0.05
	done
	mount_image "$1" "$2" "$dir/$1.fuse/disk"
}
