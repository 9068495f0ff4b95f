#!/usr/bin/perl
# Smaller copies in real stores: content type, encoding, metadata, octets
use strict;
use warnings;
use Edgehaul;
use Test::More;

Edgehaul->need_all(qw(radosgw azurite));

my $s3 = Edgehaul->radosgw;
my $azure = Edgehaul->azurite;
$s3->bucket('shots');
$azure->container('shots');
my $site = Edgehaul->site(storage => { $s3->storage('shots') },
	conf => { images => { mode => 'lossless' } });
my $jpeg = jpeg();
my $csv = join '', map { "2026-01-02T03:04:05Z;$_;" . 3 * $_ . ".5\n" }
    1 .. 5000;
my $features = slurp(Edgehaul::top_builddir() . '/config.h');
my $has_jpeg = $features =~ /^#define HAVE_JPEG 1/m;
my $has_jxl = $features =~ /^#define HAVE_JXL 1/m;

sub arrived {
	my ($store, $id) = @_;
	my ($key) = wait_for(sub { grep { /$id/ } $store->keys('shots') })
	    ? grep { /$id/ } $store->keys('shots') : ();
	return defined $key ? $store->object('shots', $key) : undef;
}

# x-amz-meta-original-size and x-ms-meta-original_size alike.
sub meta {
	my ($o) = @_;
	my %m;
	for my $name (keys %{ $o->{headers} }) {
		my ($n) = $name =~ /^x-(?:amz|ms)-meta-(.*)/ or next;
		$m{ $n =~ tr/_/-/r } = $o->{headers}{$name};
	}
	is(delete $m{sha256}, sha256_hex($o->{body}),
		'the metadata has the hash of what is there');
	return \%m;
}

sub check {
	my ($store) = @_;
	my $name = $store->name;
	my $r = $site->put('/upload/cam-1/a.csv', $csv . $name,
		type => 'text/csv');
	my $o = arrived($store, $r->{json}{id});
	ok($o, "$name: CSV is there") or return;
	is($o->{type}, 'text/csv', "$name: its content type");
	is($o->{headers}{'content-encoding'}, 'zstd', "$name: its encoding");
	is_deeply(meta($o), { 'original-sha256' => sha256_hex($csv . $name),
		'original-size' => length($csv . $name),
		'original-type' => 'text/csv', steps => 'zstd' },
		"$name: the original in its metadata");
	cmp_ok(length $o->{body}, '<', length($csv) / 2, "$name: smaller");
	$r = $site->put('/upload/cam-1/cut.jpg', substr($jpeg, 0, 30000) . $name,
		type => 'image/jpeg');
	$o = arrived($store, $r->{json}{id});
	is_deeply(meta($o), { damaged => 'yes' },
		"$name: a truncated JPEG is marked");
	is($o->{body}, substr($jpeg, 0, 30000) . $name, "$name: as it was");
SKIP: {
		skip('built without libjpeg', 3) if !$has_jpeg;
		$r = $site->put("/upload/cam-1/$name.jpg", $jpeg,
			type => 'image/jpeg');
		$o = arrived($store, $r->{json}{id});
		is($o->{type}, 'image/jpeg', "$name: a JPEG");
		is(meta($o)->{'original-sha256'}, sha256_hex($jpeg),
			"$name: tells its original");
		cmp_ok(length $o->{body}, '<', length $jpeg, "$name: smaller");
	}
}

# JPEG XL: its content type in both stores.
sub check_jxl {
	my ($store) = @_;
	my $name = $store->name;
SKIP: {
		skip('built without JPEG XL', 2) if !$has_jxl;
		need(2, 'djxl');
		my $r = $site->put("/upload/cam-jxl/$name.jpg", $jpeg,
			type => 'image/jpeg');
		my $o = arrived($store, $r->{json}{id});
		is($o->{type}, 'image/jxl', "$name: image/jxl");
		is_deeply(meta($o), { 'original-sha256' => sha256_hex($jpeg),
			'original-size' => length $jpeg,
			'original-type' => 'image/jpeg',
			steps => 'jpeg-to-jxl' }, "$name: tells its original");
		my $dir = Edgehaul->dir('jxl');
		spit("$dir/a.jxl", $o->{body});
		my ($rc) = Edgehaul->run('djxl', "$dir/a.jxl", "$dir/a.jpg");
		is(sha256_hex(slurp("$dir/a.jpg")), sha256_hex($jpeg),
			"$name: djxl gives it back");
	}
}

sub with_jpeg {
	my ($jpeg) = @_;
	$site->configure(images => { jpeg => $jpeg });
	$site->agent->stop;
	$site->agent->start;
}

check($s3);
with_jpeg('jxl') if $has_jxl;
check_jxl($s3);
my $r = $site->signer->rest('PUT', '/v1/storages/default',
	json => { $azure->storage('shots') });
ok($r->{success}, 'the storage is switched');
# what is under way may still go to the old one
ok($site->drained(30), 'nothing waits');
Time::HiRes::sleep(1.5);
check_jxl($azure);
with_jpeg('progressive');
check($azure);
is($site->unbalanced, '', 'the ledger balances');
finish;
