#!/usr/bin/perl
# Parts of uploads that will not be finished are given up at the store: of a
# blocked device, of one that was replaced while it waited, at a storage that was
# replaced; also after a kill of the agent. Nothing is left behind.
use strict;
use warnings;
use Edgehaul;
use Test::More;

Edgehaul->need_all('radosgw');
my $s3 = Edgehaul->radosgw;
$s3->bucket($_) for qw(shots other);
my $site = Edgehaul->site(storage => undef, conf => {
	spool => { on_same_name => 'replace-waiting' } });
my ($signer, $agent) = ($site->signer, $site->agent);
$signer->storage('default', $s3->storage('shots'), partSize => 5 << 20);
my $big = join '', map { pack 'N', $_ * 2654435761 % 4294967296 } 1 .. 4_000_000;

# Ids of the multipart uploads that are begun and not finished.
sub begun {
	my ($bucket) = @_;
	my $r = $s3->request('GET', "/$bucket", [[uploads => '']]);
	die "uploads of $bucket: $r->{status}\n" if $r->{status} != 200;
	return $r->{body} =~ m{<UploadId>([^<]+)</UploadId>}g;
}
sub state_of {
	my ($id) = @_;
	my ($r) = grep { $_->{id} eq $id } $site->queue_ls;
	return $r ? $r->{state} : 'gone';
}
# As slow as it has to be to be looked at, or as fast as can be.
sub rate {
	my ($rate) = @_;
	$site->configure(upload => { rate_limit => $rate });
	ok($agent->reload, ($rate // 'no') . ' rate');
}
sub put_big {
	my ($name, $body) = @_;
	rate('1 MB');
	my $id = $site->put("/upload/cam-1/$name", $body)->{json}{id};
	ok(wait_for(sub { begun('shots') }, 30), "$name: parts are begun");
	return $id;
}
sub block {
	my ($yes) = @_;
	$signer->rest('PUT', '/v1/gateways/gw-1/devices/cam-1', json =>
		{ blocked => $yes ? JSON::PP::true() : JSON::PP::false() });
}

# ---- a blocked device -------------------------------------------------------
my $id = put_big('a.bin', $big);
block(1);
ok(wait_for(sub { state_of($id) eq 'held' }), 'blocked: held');
ok(wait_for(sub { !begun('shots') }, 30), 'its parts are given up');
block(0);
rate(undef);
ok($site->drained(60, 1), 'let go again, it arrives');
my ($key) = grep { /$id/ } $s3->keys('shots');
is(sha256_hex($s3->object('shots', $key // '')->{body} // ''), sha256_hex($big),
	'from its beginning, octet by octet');
ok(!begun('shots'), 'nothing is left');

# ---- replaced while it waits, the agent killed, the signer away -------------
$id = put_big('b.bin', $big . 'b');
$signer->stop;
ok(wait_for(sub { state_of($id) eq 'waiting' }, 30), 'no signer: it waits');
my $next = $site->put('/upload/cam-1/b.bin', 'small')->{json}{id};
ok(wait_for(sub { state_of($id) eq 'gone' }), 'and is replaced');
ok(scalar(begun('shots')), 'its parts are still there');
$agent->kill9;
$agent->start;
$signer->start;
ok(wait_for(sub { !begun('shots') }, 30), 'until the signer is back');
ok($site->drained(30, 2), 'what replaced it is delivered');

# ---- a storage that is replaced ---------------------------------------------
$id = put_big('c.bin', $big . 'c');
$signer->storage('default', $s3->storage('other'), partSize => 5 << 20);
rate(undef);
ok($site->drained(60, 3), 'the storage is replaced: it goes to the new one');
ok(wait_for(sub { !begun('shots') && !begun('other') }, 30),
	'nothing is left at either');
is($site->unbalanced, '', 'the ledger balances');
finish;
