#!/usr/bin/perl
# Memory of the proxy does not grow with the size of an upload
use strict;
use warnings;
use Edgehaul;
use Test::More;

plan(skip_all => 'sanitizers: memory is theirs') if Edgehaul::sanitized();

my $size = $ENV{EDGEHAUL_BIG} // 2 << 30;
my $dir = Edgehaul->dir('gateway', disk => 1);
my $box = Edgehaul->gateway(dir => $dir, signer => 'http://127.0.0.1:9',
	token => 't', conf => { spool => { max_size => '4 GB' } });
$box->proxy->start;

# settle it with some ordinary uploads first
$box->put("/upload/cam-1/$_.bin", 'x' x 1_000_000) for 1 .. 5;
my $before = $box->proxy->proc('RssAnon');

my $c = Edgehaul::Raw->new($box->lan, timeout => 120);
$c->send(join "\r\n", 'PUT /upload/cam-1/big.bin HTTP/1.1', 'Host: gw',
	"Content-Length: $size", '', '');
my $piece = join '', map { chr($_ % 251) } 0 .. (1 << 20) - 1;
require Digest::SHA;
my $sha = Digest::SHA->new(256);
my ($most, $sent) = (0, 0);
while ($sent < $size) {
	my $n = $size - $sent < length $piece ? $size - $sent : length $piece;
	my $p = $n == length $piece ? $piece : substr $piece, 0, $n;
	$c->send($p) or last;
	$sha->add($p);
	$sent += $n;
	next if ($sent >> 20) % 64;
	my $now = $box->proxy->proc('RssAnon');
	$most = $now if $now > $most;
}
is($sent, $size, 'all was sent');
my $r = $c->response(timeout => 120);
is($r->{status}, 201, 'answered 201');
is($r->{json}{size}, $size, 'size');
is($r->{json}{sha256}, $sha->hexdigest, 'SHA-256');
diag("RssAnon before $before kB, at most $most kB");
ok($most - $before < 8192, 'it took less than 8 MB more')
    or diag("before $before kB, at most $most kB");
$box->proxy->stop;
finish;
