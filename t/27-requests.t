#!/usr/bin/perl
# Requests beyond the corpus: odd, broken, huge or of another protocol. Each has
# its one answer, nothing is kept but what is answered 2xx, and the proxy is well
use strict;
use warnings;
use Edgehaul;
use Test::More;

my $box = Edgehaul->gateway(signer => 'http://127.0.0.1:9', token => 't',
	conf => { spool => { max_size => '64 MB', repeat_window => '0 s' } });
$box->proxy->start;
my $h = "HTTP/1.1\r\nHost: x\r\n";
my $one = "Content-Length: 1\r\n\r\nx";
my $chunked = "Transfer-Encoding: chunked\r\n\r\n";

# what, octets, answers ("close": none follows, the connection ends)
my @rows = (
	['trailers that look like framing', "PUT /u/a $h${chunked}1\r\nx\r\n0\r\n"
		. "Content-Length: 5\r\nTransfer-Encoding: x\r\n\r\n"
		. "GET /-/health $h\r\n", '201 200'],
	['Expect: something else', "PUT /u/a ${h}Expect: something\r\n$one", 417],
	['1,000 empty lines before it', ("\r\n" x 1000) . "PUT /u/a $h$one", 400],
	['a request behind Connection: close', "PUT /u/b ${h}Connection: close\r\n"
		. "$one" . "PUT /u/c $h$one", '201 close'],
	['10,000 fields', "PUT /u/d $h" . ("a: b\r\n" x 10_000) . $one,
		'431 close'],
	['gzip, chunked', "PUT /u/e ${h}Transfer-Encoding: gzip, chunked\r\n\r\n"
		. "0\r\n\r\n", '501 close'],
	['chunked in HTTP/1.0', "PUT /u/e HTTP/1.0\r\n${chunked}0\r\n\r\n",
		'400 close'],
	['a chunk extension of 1 MB', "PUT /u/e $h${chunked}1;" . 'a' x 1_000_000
		. "\r\nx\r\n0\r\n\r\n", '400 close'],
	['trailers of 1 MB', "PUT /u/e $h${chunked}1\r\nx\r\n0\r\n"
		. ("a: bbbbbbb\r\n" x 90_000) . "\r\n", '431 close'],
	(map { ["$_ on an upload path", "$_ /u/f $h\r\n", 405] }
		qw(GET DELETE PATCH TRACE OPTIONS)),
	['CONNECT', "CONNECT h:1 $h\r\n", '400 close'],
	['HTTP/0.9', "PUT /u\r\n", '400 close'],
	['HTTP/2.0', "PUT /u HTTP/2.0\r\n\r\n", '505 close'],
	['HTTP/1.10', "PUT /u HTTP/1.10\r\nHost: x\r\n\r\n", '400 close'],
	['asterisk-form', "PUT * $h$one", '400 close'],
	['authority-form', "PUT a:80 $h$one", '400 close'],
	['a target of 70 KB', 'PUT /' . 'a' x 70_000 . " $h$one", '414 close'],
	['a name of 256 octets', 'PUT /' . 'a' x 256 . " $h$one", 400],
	['a name "."', "PUT /u/. $h$one", 400],
	['no name', "PUT / $h$one", 400],
	['100 folders', 'PUT ' . '/a' x 100 . " $h$one", 400],
	(map { ["name $_", "PUT /u/$_ $h$one", 400] } qw(a%2fb a%5cb
		%c0%ae%c0%ae a%00b % %zz ..%2f), 'a\\b', '<x>', 'a#b'),
	['parameters in a name', "PUT /u/a;p=1 $h$one", 201],
	['what is encoded twice is decoded once', "PUT /u/%252e%252e $h$one", 201],
	['the preface of HTTP/2', "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", '505 close'],
	['PROXY v1', "PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\nPUT /u $h$one",
		'400 close'],
	['PROXY v2', "\r\n\r\n\0\r\nQUIT\n!\x11\0\x0c", '400 close'],
	['an SSH banner', "SSH-2.0-OpenSSH_9.2\r\n", '400 close'],
	['Content-Encoding is kept as it is', "PUT /u/g ${h}Content-Encoding: gzip"
		. "\r\n$one", 201],
	['Content-Range', "PUT /u/g ${h}Content-Range: bytes 0-0/2\r\n$one", 400],
	['10 GB into 64 MB', "PUT /u/h ${h}Content-Length: 10737418240\r\n\r\n",
		'413 close'],
	['1 GB into 64 MB', "PUT /u/h ${h}Content-Length: 1073741824\r\n\r\n",
		'507 close'],
	['Upgrade', "PUT /u/j ${h}Upgrade: h2c\r\nConnection: Upgrade\r\n$one",
		201],
	(map { ["an upload to $_", "PUT $_ $h$one", 405] }
		qw(/firmware /firmware/ /firmware/x /- /-/ /-/x /%2d)),
	(map { ["nothing at $_", "GET $_ $h\r\n", 404] }
		qw(/firmware /firmware/ /firmware/x /- /-/ /-/x)),
	['a method that nothing has',
		"DELETE /firmware/check $h\r\n", 405],
	['a path without a device', "PUT /alone.jpg $h$one", 201],
);
my $kept = 0;
for (@rows) {
	my ($what, $octets, $want) = @$_;
	my $close = $want =~ s/ close$//;
	my $r = Edgehaul::request_bytes($box->lan, $octets, quiet => 0.3,
		timeout => 5, $close ? () : (count => scalar split / /, $want))
	    // {};
	my @got = map { $_->{status} } @{ $r->{answers} // [] };
	is("@got" . ($close && !$r->{closed} ? ' open' : ''), $want, $what);
	$kept += grep { $_->{status} == 201 } @{ $r->{answers} // [] };
	is($r->{answers}[0]{headers}{allow}, 'PUT, POST', 'with Allow')
	    if $what =~ /on an upload path$/;
	is($r->{answers}[0]{headers}{allow}, 'GET, HEAD, PUT, POST',
		'Allow has each method once') if $octets =~ /DELETE .firmware/;
}
is($box->ledger->{accepted}, $kept, 'kept is what was answered 201');
ok(wait_for(sub { (grep { $_->{name} eq 'alone.jpg' } $box->queue_ls)[0] }),
	'the name of a path without a device');
is((grep { $_->{name} eq 'alone.jpg' } $box->queue_ls)[0]{device},
	'127.0.0.1', 'whose address names the device');
is($box->get('/-/health')->{status}, 200, 'the proxy is well');
ok($box->proxy->stop, 'and stops cleanly');
finish;
