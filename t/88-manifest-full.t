#!/usr/bin/perl
# A channel that has had so many releases that no more fit into a manifest: the
# oldest make room, but those that others have to pass through
use strict;
use warnings;
use Edgehaul;
use Edgehaul::Publisher;
use Edgehaul::Workstation;
use File::Path 'make_path';
use Test::More;

Edgehaul->need_all('minisign');
my $s = Edgehaul->signer;
my $token = $s->token('publisher');
$s->start;
$s->storage('default', type => 'FILE');
my $by_hand = Edgehaul::Publisher->new($s, token => $token);
my $p = Edgehaul::Workstation->new(url => $s->url, token => $token,
	key => $by_hand->key);
my @hw = map { sprintf 'hardware-%02d-%s', $_, 'x' x 50 } 1 .. 63;
sub call {
	my ($method, $path, $json) = @_;
	my $r = $s->rest($method, "/v1/firmware/cam-x$path", token => $token,
		json => $json);
	die "$method $path: $r->{status} $r->{content}\n" if !$r->{success};
	return $r->{json};
}
call('PUT', '', { hw => [@hw, 'rare'], publicKeys => [$by_hand->public] });

# Releases of 32 files with long names, until there is room for none more.
my $image = $by_hand->image('x', 10);
my ($n, $size, @releases) = (0, 0);
while (1) {
	my $v = '1.' . $n++ . '.0';
	my @for = $n == 2 ? 'rare' : @hw; # the only one that it ever has
	my @files = map { { %{ $image->{file} },
		name => sprintf '%03d-%s.bin', $_, 'n' x 115 } } 1 .. 32;
	my $r = { version => $v, seq => $n, hw => \@for, $n == 3
		? (min_from => '1.0.0') : (), files => [map { { name => $_->{name},
		size => $_->{size}, sha256 => $_->{sha256}, slices => {
			size => 262144, sha256 => $_->{slicesSha256} } } } @files] };
	$size += length(Edgehaul::json_encode($r)) + 32 * length "cam-x/stable/$v/path";
	last if $size > 1_015_000;
	my $dir = "$s->{objects}/acme/default/firmware/cam-x/stable/$v";
	make_path($dir);
	for (@files) {
		spit("$dir/$_->{name}", $image->{bytes});
		spit("$dir/$_->{name}.slices", $image->{list});
	}
	call('POST', '/stable/releases', { version => $v, hw => \@for,
		files => \@files, $n == 3 ? (minFrom => '1.0.0') : () });
	push @releases, $r;
	if ($n == 1) { # what devices pass through has to be published
		my $m = $by_hand->manifest('cam-x', 'stable', 1, [@releases]);
		$by_hand->put_all(call('PUT', '/stable/manifest', $m), $m);
	}
}
my $m = $by_hand->manifest('cam-x', 'stable', 2, [@releases]);
$by_hand->put_all(call('PUT', '/stable/manifest', $m), $m);
call('POST', '/stable/manifest/announce', { seq => 2 });
cmp_ok(length $m->{manifest}, '>', 950_000, 'a manifest that is full');

my $image_file = $p->file('next.bin', 'y' x 1000);
my @cam = ('--product', 'cam-x');
for my $v ('2.0.0', '2.1.0') {
	$p->file('next.bin', "y $v" x 100);
	my ($rc, $out, $err) = $p->run('publish', @cam, '--version', $v,
		(map { ('--hw', $_) } @hw), map { $p->file(
			sprintf('%03d-%s.bin', $_, 'm' x 115), "$v $_") } 1 .. 32);
	is($rc, 0, "$v is published all the same") or diag($err);
	like($err, qr/1\.\d+\.0 is not in the manifest any more/, 'it tells what went')
	    if $v eq '2.1.0';
}
my ($rc, $out) = $p->run('ls', @cam, '--json');
my @left = map { json_decode($_)->{version} } split /\n/, $out;
is_deeply([grep { /^2/ } @left], [grep { /^2/ } '2.0.0', '2.1.0'], 'the new ones are there')
    or diag("@left");
ok((grep { $_ eq '1.0.0' } @left), 'and what others have to pass through');
ok((grep { $_ eq '1.1.0' } @left), 'and the newest of a hardware');
ok(!(grep { $_ eq '1.2.0' } @left), 'not the oldest of the others');
($rc, $out, my $err) = $p->run('publish', @cam, '--version', '1.2.0',
	'--hw', $hw[0], $image_file);
is($rc, 65, 'whose version is never used again');
finish;
