#!/usr/bin/perl
# spool stat, check, rebuild; files read back in the background; cameras that
# are silent
use strict;
use warnings;
use Edgehaul;
use Test::More;

my $jpeg = jpeg();
my $box = Edgehaul->gateway(token => 't', signer => 'http://127.0.0.1:9',
	conf => { spool => { scrub_pause => 'none' },
		'camera dock' => { address => '127.0.0.5',
			expect_every => '1 s' } });
my @ids;

# The file of an upload, and one bit of it turned round.
sub file_of {
	my ($id) = @_;
	my $seq = substr $id, 16;
	return $box->spool . '/item/' . substr($seq, 0, 13) . "/$seq";
}
sub flip {
	my ($file, $at) = @_;
	open my $f, '+<', $file or die "$file: $!";
	binmode $f;
	seek $f, $at, 0;
	read $f, my $c, 1;
	seek $f, $at, 0;
	print $f chr(ord($c) ^ 4);
	close $f;
}
sub state_of {
	my ($id) = @_;
	my ($row) = grep { $_->{id} eq $id } $box->queue_ls;
	return $row ? $row->{state} : 'none';
}

for (['spool'], ['spool', 'x'], ['spool', 'stat', 'x'], ['status', '--yes']) {
	is(($box->ctl(@$_))[0], 64, "usage: @$_");
}
is(($box->ctl('spool', 'stat'))[0], 69, 'stat without a proxy: 69');
is(($box->ctl('spool', 'check'))[0], 69, 'check without any spool: 69');

# ---- while it runs ---------------------------------------------------------
$box->proxy->start;
push @ids, $box->put("/upload/cam/$_.jpg", "$_$jpeg")->{json}{id} for 0 .. 7;
ok(wait_for(sub { $box->queue_ls == 8 }), 'eight wait');
{
	my ($rc, $out) = $box->ctl('spool', 'stat', '--json');
	my $s = json_decode($out);
	is($s->{waiting}, 8, 'stat: items');
	cmp_ok($s->{waiting_bytes}, '==', 8 * (1 + length $jpeg), 'bytes');
	is($s->{folders}, 1, 'folders');
	ok(defined $s->{oldest_age} && defined $s->{index_percent},
		'oldest, index');
	($rc, $out) = $box->ctl('spool', 'stat');
	like($out, qr/^items +8 waiting/m, 'and for people');

	($rc, $out) = $box->ctl('spool', 'check');
	is($rc, 0, 'check: all good') or diag($out);
	like($out, qr/^8 files .* all good/, 'it says so');
	flip(file_of($ids[2]), 1000);
	flip(file_of($ids[5]), (stat file_of($ids[5]))[7] - 3);
	($rc, $out) = $box->ctl('spool', 'check');
	is($rc, 74, 'two damaged: 74');
	like($out, qr/^$ids[2] its body is damaged$/m, 'one by its body');
	like($out, qr/^$ids[5] its footer is damaged$/m, 'one by its footer');
	ok(wait_for(sub { state_of($ids[2]) eq 'quarantined'
		&& state_of($ids[5]) eq 'quarantined' }), 'to quarantine');
	is(state_of($ids[3]), 'waiting', 'no other');
	is($box->unbalanced, '', 'the ledger balances');
	like((($box->ctl('queue', 'show', $ids[2]))[1]), qr/body is damaged/,
		'with the reason');
	ok(-f $box->spool . "/quarantine/$ids[2]", 'the file is kept there');
	($rc, $out) = $box->ctl('spool', 'check', '--json');
	my @lines = map { json_decode($_) } split /\n/, $out;
	is($rc, 0, 'the next check is good');
	is($lines[-1]{checked}, 6, 'of those that are left');
	($rc, $out) = $box->ctl('spool', 'rebuild', '--yes');
	is($rc, 75, 'rebuild while it runs is refused');
	ok(-f $box->spool . '/index/data.mdb', 'and nothing has moved');
}

# ---- cameras ------------------------------------------------------------------
{
	my $find = sub { my ($n) = @_; (grep { $_->{name} eq $n }
		@{ $box->status->{cameras} })[0] };
	my $cam = $find->('cam');
	is($cam->{uploads}, 8, 'status.json: uploads of a camera');
	is($cam->{bytes}, 8 * (1 + length $jpeg), 'its bytes');
	ok(!$cam->{configured} && !$cam->{silent}, 'nobody awaits it');
	ok(wait_for(sub { $find->('dock')->{silent} }), 'one that says nothing');
	like((($box->ctl('status'))[1]), qr/^camera dock is silent for \d+ s/m,
		'status names it');
	ok(wait_for(sub { $box->proxy->new_log =~ /warn +camera=dock is silent/ },
		30), 'and so does the log');
	$box->put('/upload/dock/a', 'x', from => '127.0.0.5');
	ok(!$find->('dock')->{silent}, 'until it sends');
	$box->put('/upload/dock/a', 'x' x 10, from => '127.0.0.5',
		headers => ['Content-Range: bytes 0-9/20']);
	my $dock = $find->('dock');
	is($dock->{refused}, 1, 'refusals are counted');
	like($dock->{last_refusal_text}, qr/parts of a file/, 'and told');
}
ok($box->proxy->stop, 'the proxy stops');

# ---- while it does not ----------------------------------------------------------
{
	my ($rc, $out, $err) = $box->ctl('spool', 'check');
	is($rc, 0, 'check without the proxy reads the files') or diag("$out$err");
	like($out, qr/^7 files .* all good/m, 'all that are left');
	flip(file_of($ids[0]), 10);
	($rc, $out) = $box->ctl('spool', 'check');
	is($rc, 74, 'finds a damaged one');
	like($out, qr/^$ids[0] its body is damaged$/m, 'and names it');
	ok(-f file_of($ids[0]), 'but changes nothing');

	($rc, $out, $err) = $box->ctl('spool', 'rebuild');
	is($rc, 64, 'rebuild asks first');
	like($out, qr/Every file that waits is kept/, 'and says what it does');
	ok(-f $box->spool . '/index/data.mdb', 'nothing has moved');
	($rc, $out) = $box->ctl('spool', 'rebuild', '--yes');
	is($rc, 0, 'rebuild --yes') or diag($out);
	ok(!-e $box->spool . '/index', 'the index is aside');
	ok(glob($box->spool . '/index.aside-*/data.mdb'), 'and kept');
}

# ---- in the background ------------------------------------------------------------
$box->configure(spool => { scrub_pause => '20 ms' });
$box->proxy->start;
ok(wait_for(sub { my $s = $box->status; !$s->{spool}{rebuilding}
	&& $s->{ledger}{accepted} == 9 }), 'the index is there again');
ok(wait_for(sub { state_of($ids[0]) eq 'quarantined' }, 30),
	'what is damaged is found by itself');
like($box->proxy->new_log, qr/error id=$ids[0] its body is damaged/,
	'and the log says so');
is(state_of($ids[1]), 'waiting', 'the others wait');
is($box->unbalanced, '', 'the ledger balances');

# reading back writes nothing: the index has the octets it had
{
	my $txn = sub { slurp($box->spool . '/index/data.mdb') };
	my $before = $txn->();
	my $lock = slurp($box->spool . '/index/lock.mdb');
	sleep 3;
	ok($before eq $txn->(), 'reading back writes no row');
	ok($lock eq slurp($box->spool . '/index/lock.mdb'),
		'and takes no reader slot');
}
ok($box->proxy->stop, 'the proxy stops');

# ---- what is no file of the spool -------------------------------------------
{
	$box = Edgehaul->gateway(token => 't', signer => 'http://127.0.0.1:9',
		conf => { spool => { scrub_pause => 'none' } });
	$box->proxy->start;
	@ids = map { $box->put("/upload/cam/$_.jpg", "$_$jpeg")->{json}{id} }
	    0 .. 5;
	ok(wait_for(sub { $box->queue_ls == 6 }), 'six wait');
	ok($box->proxy->stop, 'the proxy stops');
	my $spool = $box->spool;
	unlink file_of($_) for @ids[1, 2];
	is(system('mkfifo', file_of($ids[2])), 0, 'a FIFO instead of a file');
	rename file_of($ids[3]), "$spool/moved" or die;
	symlink "$spool/moved", file_of($ids[3]) or die;
	my $ahead = file_of($ids[4]) =~ s/.{4}$/0fff/r;
	mkdir $_ or die "$_: $!" for "$spool/incoming/lost+found", $ahead;

	my ($rc, $out) = $box->ctl('spool', 'check');
	is($rc, 74, 'check without the proxy is not held up');
	like($out, qr/^$ids[$_] it is no file/m, "upload $_") for 2, 3;
	$box->proxy->start;
	like($box->proxy->log, qr{warn .*incoming/lost\+found is not of},
		'a foreign folder is told');
	($rc, $out) = $box->ctl('spool', 'check');
	is($rc, 74, 'the same by the proxy');
	like($out, qr/^$ids[1] its file is missing/m, 'a missing one is found');
	like($out, qr/^$ids[$_] it is no file/m, "upload $_") for 2, 3;
	ok(wait_for(sub { $box->ledger->{quarantined} == 3 }), 'to quarantine');
	is(state_of($ids[$_]), 'waiting', "upload $_ waits") for 0, 4, 5;
	is($box->unbalanced, '', 'the ledger balances');
	is($box->put('/upload/cam/new', 'x')->{status}, 201, 'and it goes on');
	($rc, $out) = $box->ctl('spool', 'check');
	is($rc, 0, 'the next check is good') or diag($out);
	ok($box->proxy->stop, 'the proxy stops');
	rename "$spool/incoming", "$spool/incoming.old" or die;
	spit("$spool/incoming", 'x');
	ok(!eval { $box->proxy->start }, 'a file for a folder: no start');
	like($box->proxy->log, qr{error .*/incoming cannot be used as a folder: Not a dir},
		'and it is said why');
}
finish;
