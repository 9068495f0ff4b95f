#!/usr/bin/perl
# Large files go in parts to real stores; a kill -9 in the middle costs a part
use strict;
use warnings;
use Edgehaul;
use Test::More;

Edgehaul->need_all(qw(radosgw azurite));
my %stores = (S3 => Edgehaul->radosgw, AZURE => Edgehaul->azurite);
$stores{S3}->bucket('shots');
$stores{AZURE}->container('shots');
my $site = Edgehaul->site(storage => undef);
my $agent = $site->agent;
my $big = join '', map { pack 'N', $_ * 2654435761 % 4294967296 }
    1 .. 4_000_000; # 16 MB

for my $type (sort keys %stores) {
	my $store = $stores{$type};
	$site->signer->storage('default', $store->storage('shots'),
		partSize => 5 << 20);
	my $sent = sub { $site->status->{agent}{uploads}{sent_bytes} // 0 };
	$site->configure(upload => { rate_limit => '8 MB' });
	$agent->hup;
	wait_for(sub { ($site->status->{agent}{uploads}{rate_limit} // 0) > 0 });
	my $before = $sent->();
	my $r = $site->put("/upload/cam-1/$type.bin", $big);
	is($r->{status}, 201, "$type: an upload of 16 MB");
	ok(wait_for(sub { $sent->() - $before > 7_000_000 }),
		"$type: a part and a half is sent");
	$agent->kill9;
	$site->configure(upload => { rate_limit => undef });
	$agent->start;
	ok($site->drained(60), "$type: kill -9, and it arrives");
	wait_for(sub { # the new process has told
		($site->status->{agent}{uploads}{delivered} // 0) == 1;
	});
	cmp_ok($sent->(), '<=', 13_000_000, "$type: without the part that was");
	my ($key) = grep { /$r->{json}{id}/ } $store->keys('shots');
	is(sha256_hex($store->object('shots', $key // '')->{body} // ''),
		sha256_hex($big), "$type: byte for byte");
}
is($site->unbalanced, '', 'the ledger balances');
finish;
