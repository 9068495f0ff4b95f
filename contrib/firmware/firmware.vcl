# firmware.vcl - Varnish as the CDN before a bucket of firmware
#
# Set host, port and the path that firmware stands below in the bucket; the
# bucket is public-read, or reachable by this machine alone. Gateways then have
# [firmware] origin = https://THIS-HOST/ . Needs nothing but the Cache-Control
# that the signer's recipes put on each object: files never change, manifests
# are good for 30 s, also while the bucket is slow. Tested by t/85.
vcl 4.1;
import std;

backend bucket {
	.host = "@HOST@";
	.port = "@PORT@";
	.connect_timeout = 5s;
	.first_byte_timeout = 30s;
	.between_bytes_timeout = 30s;
}

sub vcl_recv {
	if (req.method != "GET" && req.method != "HEAD") {
		return (synth(405));
	}
	# nothing of a request decides what comes but its path
	unset req.http.Authorization;
	unset req.http.Cookie;
	unset req.http.Accept-Encoding;
	set req.url = regsub(req.url, "\?.*$", "");
	# PRODUCT/CHANNEL/manifest... or PRODUCT/CHANNEL/VERSION/NAME and nothing
	# else: no dot segments, no encoded ones (a plus may be), no listings; the
	# longest is a NAME of 128 with .slices
	if (req.url !~ "^(/([A-Za-z0-9_+-]|%2[Bb])([A-Za-z0-9._+-]|%2[Bb]){0,134}){3,4}$") {
		return (synth(404));
	}
	set req.url = "@PATH@" + regsuball(req.url, "%2[Bb]", "%2B");
	return (hash);
}

sub vcl_hash {
	hash_data(req.url);
	return (lookup);
}

sub vcl_backend_fetch {
	set bereq.http.Host = "@HOST@:@PORT@";
	# the whole object is fetched once, and served while it comes
	unset bereq.http.Range;
}

sub vcl_backend_response {
	set beresp.do_stream = true;
	set beresp.do_gzip = false;
	unset beresp.http.Set-Cookie;
	if (beresp.status != 200 && beresp.status != 304) {
		# what is missing now may be there in a second; never kept long
		set beresp.ttl = 1s;
		set beresp.grace = 0s;
		return (deliver);
	}
	if (bereq.url ~ "/manifest\.json(\.minisig)?$") {
		if (beresp.ttl > 30s) {
			set beresp.ttl = 30s;
		}
		# never an old one while the bucket answers
		set beresp.grace = 0s;
		set beresp.keep = 1h;
	} else {
		set beresp.ttl = 365d;
	}
}

sub vcl_deliver {
	if (obj.hits > 0) {
		set resp.http.X-Cache = "HIT";
	} else {
		set resp.http.X-Cache = "MISS";
	}
}
