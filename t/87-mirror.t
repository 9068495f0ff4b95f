#!/usr/bin/perl
# [mirror NAME]: files of a vendor who signs nothing, through the gateway: the
# first asks the vendor, the others the gateway, also when the vendor is away
use strict;
use warnings;
use Edgehaul;
use Edgehaul::Firmware;
use Edgehaul::Raw;
use Test::More;

Edgehaul->need_all('busybox');
my $port = Edgehaul::free_port();
my $dir = Edgehaul->dir('vendor');
mkdir "$dir/$_" for qw(www www/fw);
my $body = Edgehaul::Firmware::octets(3_000_000, 'vendor');
spit("$dir/www/fw/cam 1.bin", $body);
my $vendor;
sub vendor {
	$vendor = fork // die;
	exec 'setpriv', '--pdeathsig', 'TERM', 'busybox', 'httpd', '-f', '-p',
	    "127.0.0.1:$port", '-h', "$dir/www" if !$vendor;
	wait_for(sub { IO::Socket::INET->new("127.0.0.1:$port") });
}
my $box = Edgehaul->gateway(signer => 'http://127.0.0.1:9', token => 't',
	conf => { 'mirror vendor' => { url => "http://127.0.0.1:$port/fw" },
		upload => { allow_http => 'yes', allow_private => 'yes' } });
vendor();
$box->proxy->start;
$box->agent->start;

sub get {
	my ($path, %o) = @_;
	my $c = Edgehaul::Raw->new($box->lan);
	my %h = (Host => 'x', %{ $o{headers} // {} });
	$c->send(($o{method} // 'GET') . " $path HTTP/1.1\r\n"
		. join('', map { "$_: $h{$_}\r\n" } sort keys %h) . "\r\n");
	return $c->response(head => ($o{method} // '') eq 'HEAD') // {};
}
wait_for(sub { get('/firmware/check?p=x')->{status} != 503 });

my $path = '/firmware/m/vendor/cam%201.bin';
my @pid = map { my $p = fork // die;
	exec 'curl', '-s', '-o', "$dir/got$_", $box->url($path) if !$p;
	$p } 1 .. 3;
waitpid $_, 0 for @pid;
ok(-f "$dir/got$_" && slurp("$dir/got$_") eq $body, "client $_") for 1 .. 3;
my $r = get($path);
is($r->{status}, 200, 'again');
ok($r->{body} eq $body, 'its bytes');
is($r->{headers}{'edgehaul-verified'}, 'no', 'marked as verified by nobody');
like($r->{headers}{'cache-status'}, qr/^edgehaul; hit; .*unverified/, 'a hit');
my $etag = $r->{headers}{etag};
is(get($path, headers => { 'If-None-Match' => $etag })->{status}, 304,
	'If-None-Match');
$r = get($path, headers => { Range => 'bytes=1000000-1000009' });
is($r->{status}, 206, 'a range');
is($r->{body}, substr($body, 1000000, 10), 'its bytes');
$r = get($path, headers => { Range => 'bytes=0-9,2999990-' });
like($r->{headers}{'content-type'}, qr/^multipart/, 'two');
$r = get($path, headers => { Range => 'bytes=3000000-' });
is($r->{status}, 416, 'behind the end');
is($r->{headers}{'content-range'}, 'bytes */3000000', 'its length');
$r = get($path, method => 'HEAD');
is($r->{headers}{'content-length'}, 3000000, 'HEAD');
is(get('/firmware/m/vendor/none.bin')->{status}, 404, 'what there is not');
is(get('/firmware/m/other/x')->{status}, 404, 'a mirror there is not');
for ('../passwd', '%2e%2e/passwd', 'a/../../x', 'x?y=1', '/x', '') {
	like(get("/firmware/m/vendor/$_")->{status} // 0, qr/^40[04]$/,
		"not fetched: \"$_\"");
}
# A device that is blocked while it fetches is cut, others are not.
{
	my $bell = "$box->{dir}/run/proxy.bell";
	my $ring = sub { IO::Socket::UNIX->new(Type => Socket::SOCK_DGRAM,
		Peer => $bell)->send($_[0]) };
	my ($large, $p) = ($body x 10, '/firmware/m/vendor/large.bin');
	spit("$dir/www/fw/large.bin", $large);
	is(get($p, method => 'HEAD')->{status}, 200, 'a large one');
	my @c = map { Edgehaul::Raw->new($box->lan, from => $_) }
	    qw(127.0.0.41 127.0.0.42);
	$_->send("GET $p HTTP/1.1\r\nHost: x\r\n\r\n") for @c;
	my $check = Edgehaul::Raw->new($box->lan, from => '127.0.0.41');
	$check->send("GET /firmware/check?p=x&id=SN-B HTTP/1.1\r\n"
		. "Host: x\r\n\r\n");
	is(($check->response // {})->{status}, 200, 'a device asks');
	$ring->('blocked {"devices":["SN-B"]}');
	ok(wait_for(sub { $box->proxy->log =~ /mirror vendor .*cut: the device is/ }),
		'a blocked one is cut');
	ok(($c[1]->response // {})->{body} eq $large, 'another gets all of it');
	isnt(length(($c[0]->response // {})->{body} // ''), length $large,
		'the blocked one does not');
	is($box->put($path, 'x', from => '127.0.0.42')->{status}, 405,
		'the proxy lives');
	$ring->('blocked {"devices":[]}');
}
kill 'TERM', $vendor;
waitpid $vendor, 0;
ok(get($path)->{body} eq $body, 'with the vendor away');
ok($box->agent->stop, 'the agent stops');
ok($box->proxy->stop, 'the proxy stops');
finish;
