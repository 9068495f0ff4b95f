#!/usr/bin/perl
# when_full = drop-oldest: what is full takes as few of the waiting with it as
# can be, whatever is full, and bodies without a length are taken, too
use strict;
use warnings;
use Edgehaul;
use Test::More;

require Edgehaul::Raw;

my $mb = 1 << 20;
my %conf = (spool => { max_size => '64 MB', repeat_window => '0 s',
	when_full => 'drop-oldest' }, limits => { share => '100 %' });
sub status { my ($box, $name, $mb_n) = @_;
	$box->put("/upload/f/$name", substr($name . 'x' x 64, 0, 64)
		x ($mb_n * $mb / 64))->{status} }

# ---- bodies of unknown length --------------------------------------------------
my $box = Edgehaul->gateway(signer => 'http://127.0.0.1:9', token => 't',
	conf => \%conf);
$box->proxy->start;
sub chunked {
	my ($path, $body, @headers) = @_;
	my $c = Edgehaul::Raw->new($box->lan);
	$c->send(join "\r\n", "POST $path HTTP/1.1", 'Host: x',
		'Transfer-Encoding: chunked', @headers, '', '');
	for (my $at = 0; $at < length $body; $at += 100_000) {
		my $piece = substr $body, $at, 100_000;
		$c->send(sprintf("%x\r\n", length $piece) . "$piece\r\n") or last;
	}
	$c->send("0\r\n\r\n");
	return $c->response // {};
}
is(status($box, "fill-$_", 8), 201, 'fills the spool') for 1 .. 7;
for my $i (1 .. 3) {
	my $body = "chunked $i" . 'c' x (9 * $mb);
	my $r = chunked("/upload/f/c$i", $body);
	is($r->{status}, 201, 'chunked into a full spool: taken');
	is($r->{json}{sha256}, sha256_hex($body), 'all of it');
	my $form = join '', map { "--b\r\nContent-Disposition: form-data; "
		. "filename=$_\r\n\r\n" . "$_$i" x (2 * $mb) . "\r\n" } qw(a b);
	is(chunked('/upload/f/', "$form--b--\r\n",
		'Content-Type: multipart/form-data; boundary=b')->{status}, 201,
		'a chunked form, too');
}
is($box->unbalanced, '', 'the ledger balances');
is(chunked('/upload/f/huge', 'h' x (70 * $mb))->{status}, 507,
	'what would not fit into an empty spool is refused');
ok(wait_for(sub { status($box, 'after', 1) == 201 }, 5),
	'and the next one is taken');
{
	# many that come at once take together what they need
	status($box, "again-$_", 1) for 1 .. 80;
	my $before = $box->ledger->{evicted};
	my @c = map { Edgehaul::Raw->new($box->lan) } 1 .. 40;
	$c[$_]->send("PUT /upload/f/m$_ HTTP/1.1\r\nHost: x\r\n"
		. "Content-Length: 200000\r\n\r\n" . 'm' x 200_000) for 0 .. 39;
	is(scalar(grep { ($_->response // {})->{status} == 201 } @c), 40,
		'40 at once into a full spool: all are taken');
	my $gone = $box->ledger->{evicted} - $before;
	cmp_ok($gone, '<=', 16, 'for as many as are needed'); # 8 MB
	is($box->unbalanced, '', 'the ledger balances');
}
ok($box->proxy->stop, 'the proxy stops');

# ---- what has gone is no repeat -----------------------------------------------------
{
	my $again = Edgehaul->gateway(signer => 'http://127.0.0.1:9',
		token => 't', conf => { %conf, spool => { %{ $conf{spool} },
			max_size => '16 MB', repeat_window => '1 h' } });
	$again->proxy->start;
	my $first = $again->put('/upload/f/a.jpg', 'precious');
	is($again->put('/upload/f/a.jpg', 'precious')->{status}, 200, 'a repeat');
	status($again, "r-$_", 4) for 1 .. 5;
	ok(wait_for(sub { $again->ledger->{evicted} > 0 }), 'the oldest went');
	my $r = $again->put('/upload/f/a.jpg', 'precious');
	is($r->{status}, 201, 'the same is new again');
	ok(wait_for(sub { grep { $_->{id} eq $r->{json}{id} } $again->queue_ls }),
		'and waits');
	is($again->unbalanced, '', 'the ledger balances');
	ok($again->proxy->stop, 'the proxy stops');
}

# ---- forms that come together hold no more than there is -------------------------
{
	my $forms = Edgehaul->gateway(signer => 'http://127.0.0.1:9',
		token => 't', conf => { %conf, spool => { %{ $conf{spool} },
			max_size => '16 MB', when_full => 'refuse' } });
	$forms->proxy->start;
	my @c = map { Edgehaul::Raw->new($forms->lan) } 1 .. 6;
	my $end = "\r\n--b--\r\n";
	my $file = "--b\r\nContent-Disposition: form-data; filename=a\r\n\r\n"
	    . 'f' x (6 * $mb);
	for (@c) { # each fits, all of them do not
		$_->send("POST /upload/f/ HTTP/1.1\r\nHost: x\r\nContent-Type: "
			. 'multipart/form-data; boundary=b' . "\r\nContent-Length: "
			. length("$file$end") . "\r\n\r\n" . substr $file, 0, 100);
	}
	select undef, undef, undef, 0.3; # all have begun
	$_->send(substr $file, 100) for @c;
	$_->send($end) for @c;
	my %got;
	$got{ ($_->response // {})->{status} // 0 }++ for @c;
	is(join(' ', sort keys %got), '201 507', 'some are taken, others not');
	cmp_ok($forms->status->{spool}{waiting_bytes}, '<=', 16 * $mb,
		'and max_size holds');
	ok($forms->proxy->stop, 'the proxy stops');
}

# ---- a full disk, not a full spool ------------------------------------------------
SKIP: {
	need_root(9);
	my $at = Edgehaul->dir('small-disk');
	skip('kernel: cannot mount tmpfs', 9)
	    if system("mount -t tmpfs -o size=128m tmpfs $at 2>/dev/null") != 0;
	my $small = Edgehaul->gateway(signer => 'http://127.0.0.1:9',
		token => 't', conf => { %conf, gateway => { state_dir => "$at/s" },
			spool => { %{ $conf{spool} }, max_size => '1 GB',
				index_size => '4 MB', free_floor => '40 MB' },
			firmware => { cache_size => '1 MB' } });
	$small->proxy->start;
	my ($taken, $refused) = (0, 0);
	status($small, "d-$_", 1) == 201 ? $taken++ : $refused++ for 1 .. 110;
	my $l = $small->ledger;
	is($refused, 0, 'a full disk: none of 110 is refused');
	cmp_ok($l->{evicted}, '>', 20, 'others went for them');
	ok(wait_for(sub { my $free = $small->status->{spool}{disk_free};
		$free > 39 * $mb && $free < 46 * $mb }), 'no more than had to')
	    or diag(json_encode($small->status->{spool}));
	is($small->unbalanced, '', 'the ledger balances');
	# others fill it up to the floor, beyond what we could give
	open my $hog, '>', "$at/hog" or die;
	print $hog 'h' x (45 * $mb);
	close $hog;
	ok(wait_for(sub { $small->status->{spool}{disk_free} < 40 * $mb }),
		'others fill the disk');
	my $before = $small->ledger;
	is(status($small, 'x', 1), 201, 'room is made again');
	my $gone = $small->ledger->{evicted} - $before->{evicted};
	cmp_ok($gone, '<', 60, 'by as many as are needed');
	unlink "$at/hog";
	is(status($small, 'y', 1), 201, 'and goes on');
	ok($small->proxy->stop, 'the proxy stops');
	wait_for(sub { system("umount $at 2>/dev/null") == 0 }, 5);
}
finish;
