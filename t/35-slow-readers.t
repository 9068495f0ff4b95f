#!/usr/bin/perl
# Who asks for status.json and metrics and does not read them holds a bounded
# memory, and those who do read get theirs all the while
use strict;
use warnings;
use Edgehaul;
use Edgehaul::Raw;
use Test::More;

my $box = Edgehaul->gateway(signer => 'http://127.0.0.1:9', token => 't',
	conf => { limits => { max_connections => 1000 } });
$box->proxy->start;

# as many names as the page tells apart, long ones
my $c = Edgehaul::Raw->new($box->lan);
for (1 .. 1000) {
	$c->send('PUT /upload/' . sprintf('a-camera-of-the-hall-%040d', $_)
		. "/x.jpg HTTP/1.1\r\nHost: gw\r\nContent-Length: 9000000000\r\n"
		. "\r\n");
	my $r = $c->response;
	$c = Edgehaul::Raw->new($box->lan) if ($r->{headers}{connection} // '')
	    eq 'close';
}
my $size = length $box->get('/-/status.json')->{content};
cmp_ok($size, '>', 100_000, "status.json has $size octets");
ok(wait_for(sub { $box->proxy->proc('RssAnon') > 0 }), 'it runs');

my @slow;
my $before = $box->proxy->proc('RssAnon');
for my $i (1 .. 400) {
	my $s = Edgehaul::Raw->new($box->lan, rcvbuf => 4096) or last;
	my $path = $i % 2 ? '/-/status.json' : '/-/metrics';
	$s->send("GET $path HTTP/1.1\r\nHost: gw\r\n\r\n");
	push @slow, $s;
}
is(scalar @slow, 400, '400 ask and do not read');
my ($ok, $most) = (0, 0);
for (1 .. 20) {
	my $r = $box->get('/-/status.json');
	$ok += $r->{status} == 200 && ref $r->{json}{ledger} eq 'HASH';
	my $now = $box->proxy->proc('RssAnon');
	$most = $now if $now > $most;
}
is($ok, 20, 'others get the page');
is($box->get('/-/metrics')->{status}, 200, 'and the metrics');
SKIP: {
	skip 'sanitizers: memory is theirs', 1 if Edgehaul::sanitized();
	cmp_ok($most - $before, '<', 12_000, 'less than 12 MB more')
	    or diag("before $before kB, at most $most kB");
}
diag("RssAnon before $before kB, at most $most kB");
@slow = ();
ok($box->proxy->stop, 'the proxy stops');
finish;
