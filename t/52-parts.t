#!/usr/bin/perl
# Large files go in parts to real stores; a kill -9 in the middle costs a part
use strict;
use warnings;
use Edgehaul;
use IO::Socket::UNIX;
use Test::More;

Edgehaul->need_all(qw(radosgw azurite));
my %stores = (S3 => Edgehaul->radosgw, AZURE => Edgehaul->azurite);
$stores{S3}->bucket('shots');
$stores{AZURE}->container('shots');
my $site = Edgehaul->site(storage => undef);
my $agent = $site->agent;
my $big = join '', map { pack 'N', $_ * 2654435761 % 4294967296 }
    1 .. 4_000_000; # 16 MB

# The agent's own word: the proxy's may be of the process before.
sub uploads {
	my $c = IO::Socket::UNIX->new("$site->{dir}/run/agent.sock")
	    or die "agent.sock: $!\n";
	print $c "GET /status HTTP/1.0\r\n\r\n";
	local $/;
	my ($body) = <$c> =~ /\r\n\r\n(.*)/s;
	return json_decode($body)->{uploads};
}

for my $type (sort keys %stores) {
	my $store = $stores{$type};
	$site->signer->storage('default', $store->storage('shots'),
		partSize => 5 << 20);
	$site->configure(upload => { rate_limit => '4 MB' });
	$agent->reload;
	my $before = uploads()->{sent_bytes};
	my $r = $site->put("/upload/cam-1/$type.bin", $big);
	is($r->{status}, 201, "$type: an upload of 16 MB");
	ok(wait_for(sub { uploads()->{sent_bytes} - $before > 7_000_000 }),
		"$type: a part and a half is sent");
	$agent->kill9;
	$site->configure(upload => { rate_limit => undef });
	$agent->start;
	ok($site->drained(60), "$type: kill -9, and it arrives");
	cmp_ok(uploads()->{sent_bytes}, '<=', 13_000_000, "$type: without the part that was");
	my ($key) = grep { /$r->{json}{id}/ } $store->keys('shots');
	is(sha256_hex($store->object('shots', $key // '')->{body} // ''),
		sha256_hex($big), "$type: byte for byte");
}

# ---- the storage is replaced in the middle ---------------------------------
# What was begun at the old one is given up there, so that nobody pays for it.
$site->signer->storage('default', $stores{S3}->storage('shots'),
	partSize => 5 << 20);
sub begun { # uploads in parts that radosgw has
	my $r = $stores{S3}->request('GET', '/shots', [['uploads', '']]);
	return scalar(() = $r->{body} =~ m{<UploadId>}g);
}
$site->configure(upload => { rate_limit => '3 MB' });
$agent->reload;
my $before = uploads()->{sent_bytes};
my $r = $site->put('/upload/cam-1/moved.bin', $big);
ok(wait_for(sub { uploads()->{sent_bytes} - $before > 6_000_000 }),
	'a part is at the old store');
# From here on it takes as long as it has to.
$site->configure(upload => { rate_limit => '100 KB' });
$agent->reload;
is(begun(), 1, 'which waits for the others');
$site->signer->storage('default', $stores{AZURE}->storage('shots'),
	partSize => 5 << 20);
$site->configure(upload => { rate_limit => undef });
$agent->reload;
ok($site->drained(60), 'it arrives');
my ($key) = grep { /$r->{json}{id}/ } $stores{AZURE}->keys('shots');
is(sha256_hex($stores{AZURE}->object('shots', $key // '')->{body} // ''),
	sha256_hex($big), 'at the new store, byte for byte');
is(scalar(grep { /$r->{json}{id}/ } $stores{S3}->keys('shots')), 0,
	'not at the old one');
is(begun(), 0, 'where its parts are given up');
is($site->unbalanced, '', 'the ledger balances');
finish;
