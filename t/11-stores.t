#!/usr/bin/perl
# Real stores: radosgw (S3) and Azurite (Azure Blob), signatures verified
#
# The switch from one to the other is one REST call by the tenant's admin; the
# files that wait at the gateway then go to the new store and nothing on the
# gateway is touched.
use strict;
use warnings;
use Edgehaul;
use Test::More;

Edgehaul->need_all(qw(radosgw azurite));

my $s3 = Edgehaul->radosgw;
my $azure = Edgehaul->azurite;
$s3->bucket('shots');
$azure->container('shots');
my $site = Edgehaul->site(storage => { $s3->storage('shots') });
my $jpeg = jpeg();

# The objects of a store whose key holds the id.
sub with_id {
	my ($store, $id) = @_;
	return grep { /\Q$id\E/ } $store->keys('shots');
}

sub arrives {
	my ($store, $id, $body, $type) = @_;
	my $name = $store->name;
	my ($key) = wait_for(sub { with_id($store, $id) })
	    ? with_id($store, $id) : ();
	ok(defined $key, "$name: the object is there") or return;
	is(scalar(with_id($store, $id)), 1, "$name: once");
	my $o = $store->object('shots', $key);
	is(sha256_hex($o->{body} // ''), sha256_hex($body),
		"$name: byte for byte");
	is($o->{type}, $type, "$name: content type") if defined $type;
	return $key;
}

# ---- S3 --------------------------------------------------------------------
my $r = $site->put('/upload/cam-1/shot.jpg', $jpeg, type => 'image/jpeg');
is($r->{status}, 201, 'answered 201');
my $key = arrives($s3, $r->{json}{id}, $jpeg, 'image/jpeg');
like($key, qr{^gw-1/cam-1/}, 'below the prefix of the gateway');
my $odd = join '', map { chr } 0 .. 255;
$r = $site->put("/upload/cam 1/caf\xc3\xa9 +%25&=%231~.bin", $odd,
	type => 'application/octet-stream; version="1"');
is($r->{status}, 201, 'a name that is hard to sign');
arrives($s3, $r->{json}{id}, $odd, 'application/octet-stream; version="1"');
$r = $site->put('/upload/cam-1/empty.txt', '', type => 'text/plain');
arrives($s3, $r->{json}{id}, '', 'text/plain');
my $big = 'edgehaul' x 2_500_000;
$r = $site->put('/upload/cam-1/big.bin', $big, type => 'video/mp4');
arrives($s3, $r->{json}{id}, $big, 'video/mp4');

# ---- the switch ------------------------------------------------------------
$site->signer->stop;
my @waiting;
for my $n (1 .. 12) {
	my $body = "$n" x (1000 * $n);
	$r = $site->put("/upload/cam-2/$n.jpg", $body, type => 'image/jpeg');
	push @waiting, [$r->{json}{id}, $body];
}
is($site->ledger->{waiting}, 12, 'twelve files wait');
my @before = $s3->keys('shots');
# the admin's one call must be in before the agent asks: it is told to wait
$site->agent->signal('STOP');
$site->signer->start;
my $switch = $site->signer->rest('PUT', '/v1/storages/default',
	json => { $azure->storage('shots') });
ok($switch->{success}, 'one REST call switches the storage')
    or diag($switch->{content});
$site->agent->signal('CONT');
arrives($azure, $_->[0], $_->[1], 'image/jpeg') for @waiting;
is_deeply([sort $s3->keys('shots')], [sort @before],
	'nothing more went to the old store');

# ---- Azure -----------------------------------------------------------------
$r = $site->put('/upload/cam-3/shot.jpg', $jpeg, type => 'image/jpeg');
$key = arrives($azure, $r->{json}{id}, $jpeg, 'image/jpeg');
like($key, qr{^gw-1/cam-3/}, 'below the prefix of the gateway');
$r = $site->put("/upload/cam 4/caf\xc3\xa9 +%25&=%231~.bin", $odd,
	type => 'application/octet-stream; version="1"');
arrives($azure, $r->{json}{id}, $odd);
$r = $site->put('/upload/cam-4/empty.txt', '', type => 'text/plain');
arrives($azure, $r->{json}{id}, '', 'text/plain');
$r = $site->put('/upload/cam-4/big.bin', $big, type => 'video/mp4');
arrives($azure, $r->{json}{id}, $big, 'video/mp4');

ok($site->drained(30), 'nothing waits any more');
is($site->unbalanced, '', 'the ledger balances');

# ---- secrets are write-only ------------------------------------------------
$r = $site->signer->rest('GET', '/v1/storages/default');
is($r->{status}, 200, 'GET of the storage');
unlike($r->{content}, qr/\Q$azure->{key}\E/, 'without its key');
unlike($site->$_->log, qr/[?&](sig|X-Amz-Signature)=/, "$_: no signed query logged")
    for qw(agent proxy signer);
finish;
