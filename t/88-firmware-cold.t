#!/usr/bin/perl
# A gateway whose cache is cold: many devices, one download; what is fetched
# ahead; and devices that ask for what they should not
use strict;
use warnings;
use Edgehaul;
use Edgehaul::Publisher;
use IO::Socket::INET;
use Test::More;
use Time::HiRes qw(sleep time);

Edgehaul->need_all('minisign');
my $SLICE = 262144;
my $cdn = Edgehaul->origin(rate => 16 << 20);
my $site = Edgehaul->site(start => 0);
my $fw = Edgehaul::Publisher->new($site->signer);
$site->configure(firmware => { origin => $cdn->url, prefetch => 'off',
	publisher_key => $fw->public, cache_size => '100 MB' });
my %releases;

# A release of a product: its hash.
sub release {
	my ($product, $version, $size, %more) = @_;
	my $image = $fw->image("$product-$version", $size);
	my $list = $releases{$product} //= [];
	push @$list, $fw->release($version, 1 + @$list, $image, %more);
	my $path = "$product/stable/$version/$product-$version.bin";
	$cdn->put($path, $image->{bytes})->put("$path.slices", $image->{list});
	return $image;
}

my %seq;
sub publish {
	my ($product, %more) = @_;
	my $m = $fw->manifest($product, 'stable', ++$seq{$product},
	    $releases{$product}, %more);
	my $at = "$product/stable/manifest.json";
	$cdn->put("$at.minisig", $m->{signature})->put($at, $m->{manifest});
	my $r = $site->signer->rest('PUT', "/v1/firmware/$product",
	    json => { hw => ['1'], publicKeys => [$fw->public] });
	die $r->{content} if !$r->{success};
}

sub check {
	my ($product, $version, $id) = @_;
	my $r = $site->get("/firmware/check?p=$product&hw=1&v=$version&id=$id");
	return { map { split /=/, $_, 2 } grep { /=/ } split /\n/, $r->{content} };
}

# A device that reads a file: { first: seconds to the first octet, body }.
sub device {
	my ($sha, $range) = @_;
	my $begun = time;
	my $s = IO::Socket::INET->new($site->lan) or die "connect: $!";
	print $s "GET /firmware/b/$sha HTTP/1.0\r\n"
	    . ($range ? "Range: bytes=$range\r\n" : '') . "\r\n";
	my ($all, $first) = ('', undef);
	while (sysread $s, my $more, 65536) {
		$all .= $more;
		$first = time - $begun if !defined $first && $all =~ /\r\n\r\n./s;
	}
	my ($head, $body) = split /\r\n\r\n/, $all, 2;
	return { first => $first, secs => time - $begun, body => $body // '',
		head => $head };
}

# In a process of its own; what it says to the end.
sub later {
	my ($code) = @_;
	pipe my $r, my $w or die;
	my $pid = fork // die;
	if ($pid == 0) {
		close $r;
		print $w $code->();
		close $w;
		require POSIX;
		POSIX::_exit(0);
	}
	close $w;
	return sub { local $/; my $s = <$r>; waitpid $pid, 0; $s };
}

my $big = release('cam-x', '1.0.0', 160 * $SLICE);
my $end = release('cam-x', '1.1.0', 80 * $SLICE);
my $ahead = release('cam-y', '2.0.0', 5 * $SLICE);
my $old = release('cam-y', '1.0.0', 2 * $SLICE, seq => 7);
$releases{'cam-y'}[0]{seq} = 9;
publish($_) for 'cam-x', 'cam-y';
publish('cam-z') if release('cam-z', '1.0.0', $SLICE);
$_->start for $site->proxy, $site->agent;
ok(wait_for(sub { (check('cam-x', '0.9', 'c')->{status} // '') eq 'update' }),
    'a gateway with firmware');

# ---- five devices, one download ---------------------------------------------
my $sha = $big->{file}{sha256};
$cdn->forget;
my @devices = map {
	sleep 1 if $_ == 1;
	later(sub {
		my $d = device($sha);
		return join ' ', sha256_hex($d->{body}), $d->{first}, $d->{secs};
	});
} 0 .. 4;
my @got = map { [split / /, $_->()] } @devices;
is($_->[0], $sha, 'all bytes') for @got;
my ($worst) = sort { $b <=> $a } map { $_->[1] } @got[1 .. 4];
cmp_ok($worst, '<', 0.05 * Edgehaul::slowness() * 4,
    sprintf 'a late device has its first octet at once (%.0f ms)', $worst * 1000);
my @asked;
wait_for(sub { (@asked = $cdn->requests(qr/1\.0\.0/)) >= 6 }, 3);
cmp_ok(scalar @asked, '<=', 6, 'at most six requests') or diag(json_encode(\@asked));
my $sum = 0;
$sum += $_->{sent} for @asked;
cmp_ok($sum, '<=', 161 * $SLICE, 'at most one body and a slice');
note(sprintf 'first %s, late %s; done in %s', $got[0][1],
    join(' ', map { sprintf '%.3f', $_->[1] } @got[1 .. 4]),
    join ' ', map { sprintf '%.1f', $_->[2] } @got);

# ---- a cold range at the end ------------------------------------------------
my $size = 80 * $SLICE;
my $d = device($end->{file}{sha256}, ($size - 65536) . '-' . ($size - 1));
ok($d->{body} eq substr($end->{bytes}, -65536), 'a range at the end');
ok(wait_for(sub { $cdn->requests(qr/1\.1\.0.*bin$/) }), 'from the origin');
$sum = 0;
$sum += $_->{sent} for $cdn->requests(qr/1\.1\.0.*bin$/);
cmp_ok($sum, '<=', 4 * $SLICE, 'costs what it needs');
note(sprintf 'cold range at the end: %.3f s, %d octets', $d->{secs}, $sum);

# ---- devices that ask for all there is --------------------------------------
$cdn->forget;
$site->get("/firmware/check?p=$_&hw=1&v=1&id=bad&ch=" . ($_ x 2))
    for map { ($_, "made-up-$_") } 'a' .. 'j';
check($_, '0.1', 'greedy') for 'cam-x', 'cam-y', 'cam-z';
sleep 1.5;
is_deeply([grep { !m{^cam-[xyz]/stable/manifest} } map { $_->{path} } $cdn->requests],
    [], 'made-up products cost no request');

# ---- fetched ahead ----------------------------------------------------------
# cam-y is seen, by one device; cam-z only by one that asks for everything.
$cdn->rate('');
check('cam-y', '0.1', 'honest');
$site->configure(firmware => { prefetch => 'on' });
$site->$_->hup for 'agent', 'proxy';
sub cached {
	my ($image) = @_;
	my $f = "$site->{dir}/state/cache/blob/$image->{file}{sha256}";
	return -f $f && slurp($f) eq $image->{bytes};
}
ok(wait_for(sub { cached($ahead) }, 15), 'the newest of a product that was seen');
my $s = $site->status;
is_deeply([grep { /cam-z.*bin/ } map { $_->{path} } $cdn->requests], [],
    'none of one that only a greedy device knows');
ok(wait_for(sub { ($site->status->{agent}{firmware}{cache}{pinned} // 0)
	>= 5 * $SLICE }), 'and pinned') or diag(json_encode($s->{agent}{firmware}));
# What devices run is told to the signer.
my $token = $site->signer->token('publisher');
my $rows = sub {
	my $r = $site->signer->rest('GET', '/v1/firmware/cam-y/stable/devices',
	    token => $token);
	return { map { ($_->{id} => $_) } @{ $r->{json}{items} // [] } };
};
ok(wait_for(sub { ($rows->()->{honest}{version} // '') eq '0.1' }, 40),
    'what a device runs is told to the signer') or diag(json_encode($rows->()));

# A lost index costs no download: what is there is compared with the list.
$_->stop for $site->agent, $site->proxy;
is(system('rm', '-r', "$site->{dir}/state/cache/index"), 0, 'the index is lost');
$site->configure(firmware => { prefetch => 'off' });
$cdn->forget;
$_->start for $site->proxy, $site->agent;
ok(wait_for(sub { ($site->status->{agent}{firmware}{fills}{adopted} // 0)
	>= 5 + 160 }), 'all that was there is taken over')
    or diag(json_encode($site->status->{agent}{firmware}));
is_deeply([grep { /bin$/ } map { $_->{path} } $cdn->requests], [],
    'and nothing fetched again');
$site->configure(firmware => { prefetch => 'on' });
$site->$_->hup for 'agent', 'proxy';
check('cam-y', '0.1', 'honest');

# Without WAN and after a restart all of it is there.
$cdn->stop;
$site->signer->stop;
$_->kill9 for $site->agent, $site->proxy;
$_->start for $site->agent, $site->proxy;
ok(wait_for(sub { (check('cam-y', '0.1', 'honest')->{status} // '') eq 'update' }),
    'without WAN: offered');
ok(device($ahead->{file}{sha256})->{body} eq $ahead->{bytes}, 'and served');
is($site->get('/firmware/b/' . ('0' x 64))->{status}, 404, 'no such firmware');
# A folder that cannot be opened is tried again.
$site->agent->stop;
$site->proxy->stop;
rename "$site->{dir}/state/cache", "$site->{dir}/state/aside" or die;
spit("$site->{dir}/state/cache", 'a file');
$site->agent->start;
ok(wait_for(sub { $site->agent->new_log =~ /no firmware until this is mended/ }),
    'told once');
unlink "$site->{dir}/state/cache";
rename "$site->{dir}/state/aside", "$site->{dir}/state/cache" or die;
ok(wait_for(sub { $site->agent->new_log =~ /octets in the cache/ }), 'and mended');
is(scalar(() = $site->agent->new_log =~ /until this is mended/g), 1, 'only once');
finish;
