#!/usr/bin/perl
# What may not be there twice is not, however many send it at once
use strict;
use warnings;
use Edgehaul;
use Test::More;

require Edgehaul::Raw;

my $box = Edgehaul->gateway(signer => 'http://127.0.0.1:9', token => 't',
	conf => { spool => { max_size => '64 MB', repeat_window => '0 s' } });
$box->proxy->start;

sub reconfigure {
	$box->configure(@_);
	ok($box->proxy->reload, 'reloaded');
}
# "STATUS xN ..." of n uploads whose bodies all end at once.
sub at_once {
	my ($n, $path, $head, $begin, $end) = @_;
	my @c = map { Edgehaul::Raw->new($box->lan) } 1 .. $n;
	my $i = 0;
	for (@c) {
		my $body = sprintf $begin, ++$i;
		$_->send(($path =~ /^POST/ ? $path : "PUT $path")
			. " HTTP/1.1\r\nHost: x\r\n$head"
			. 'Content-Length: ' . (length($body) + length $end)
			. "\r\n\r\n$body");
	}
	# all are past the first look at the name
	wait_for(sub { $box->get('/-/status.json')->{json}{lan}{connections}
		> $n }, 5);
	select undef, undef, undef, 0.3;
	$_->send($end) for @c;
	my %got;
	$got{ ($_->response // {})->{status} // 0 }++ for @c;
	return join ' ', map { "$_ x$got{$_}" } sort keys %got;
}
sub waiting { my $n = shift; scalar grep { $_->{name} eq $n } $box->queue_ls }

is(at_once(40, '/upload/c/same', "If-None-Match: *\r\n", 'body %04d', 'end'),
	'201 x1 412 x39', 'If-None-Match: *, 40 at once: one is taken');
ok(wait_for(sub { waiting('same') == 1 }), 'and waits');
is(at_once(5, '/upload/c/same', '', 'body %04d', 'end'), '201 x5',
	'without a condition all are taken');

# ETags of what waits.
{
	my $cond = sub { my ($body, @headers) = @_;
		$box->put('/upload/c/etag', $body, headers => \@headers)->{status} };
	my $tag = sub { '"' . sha256_hex($_[0]) . '"' };
	is($cond->('v1', 'If-Match: *'), 412, 'If-Match: * while none waits');
	is($cond->('v1', 'If-None-Match: ' . $tag->('v1')), 201,
		'If-None-Match of an ETag that does not wait');
	is($cond->('v2', 'If-None-Match: "x"', 'If-None-Match: W/'
		. $tag->('v1')), 412, 'one that does, in the second line');
	is($cond->('v2', 'If-Match: ' . $tag->('v0')), 412,
		'If-Match of an ETag that does not wait');
	is($cond->('v2', 'If-Match: "x", ' . $tag->('v1')), 201,
		'one that does');
	is($cond->('v3', 'If-Match: v1'), 400, 'one that cannot be read');
}

my $form = "--b\r\nContent-Disposition: form-data; name=\"x\"; "
    . "filename=\"%s\"\r\n\r\n";
my $multi = "Content-Type: multipart/form-data; boundary=b\r\n";
reconfigure(spool => { on_same_name => 'reject' });
is(at_once(20, '/upload/c/rej', '', 'body %04d', 'end'), '201 x1 409 x19',
	'reject, 20 at once: one is taken');
is(at_once(10, 'POST /upload/c/', $multi,
	sprintf($form, 'one') . "1\r\n" . sprintf($form, 'two') . '%04d',
	"\r\n--b--\r\n"), '201 x1 409 x9', 'the same with forms');
is(at_once(1, 'POST /upload/c/', $multi,
	sprintf($form, 'three') . "1\r\n" . sprintf($form, 'two') . '%04d',
	"\r\n--b--\r\n"), '409 x1', 'each part of a form counts');
is(waiting('three'), 0, 'and nothing of it is kept');

# A claim ends with its upload, whatever becomes of that.
my $c = Edgehaul::Raw->new($box->lan);
$c->send("PUT /upload/c/lost HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nx");
$c->close;
ok(wait_for(sub { $box->proxy->log =~ /upload lost/ }), 'one is lost');
is($box->put('/upload/c/lost', 'again')->{status}, 201, 'its name is free');

# The rule is that of the head, also when the sections are others by now.
reconfigure(spool => { on_same_name => 'keep-both' },
	'camera dock' => { address => '127.0.0.5',
		on_same_name => 'replace-waiting' });
is($box->put('/upload/dock/r', 'v1', from => '127.0.0.5')->{status}, 201,
	'one of a camera');
$c = Edgehaul::Raw->new($box->lan, from => '127.0.0.5');
$c->send("PUT /upload/dock/r HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nv");
wait_for(sub { $box->get('/-/status.json')->{json}{lan}{connections} > 1 });
reconfigure('camera dock' => { on_same_name => 'keep-both' });
$c->send('2');
is($c->response->{status}, 201, 'settings change while another comes');
ok(wait_for(sub { my @r = grep { $_->{name} eq 'r' } $box->queue_ls;
	@r == 1 && $r[0]{sha256} eq sha256_hex('v2') }), 'which replaces it');
# What was replaced is not there: sent again, within repeat_window, it is new.
reconfigure(spool => { on_same_name => 'replace-waiting',
	repeat_window => '1 h' });
sub waits { my $body = shift;
	wait_for(sub { my @r = grep { $_->{name} eq 'turn' } $box->queue_ls;
		@r == 1 && $r[0]{sha256} eq sha256_hex($body) }) }
for my $body (qw(night day night)) {
	is($box->put('/upload/c/turn', $body)->{status}, 201, "$body: taken");
	ok(waits($body), 'and waits');
}
is($box->unbalanced, '', 'the ledger balances');
ok($box->proxy->stop, 'the proxy stops cleanly');
finish;
