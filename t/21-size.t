#!/usr/bin/perl
# Size of the programs, and memory at rest
use strict;
use warnings;
use Edgehaul;
use File::Copy ();
use Test::More;

plan(skip_all => 'sanitizers: sizes are theirs') if Edgehaul::sanitized();
Edgehaul->need_all('strip');

my $build = Edgehaul::top_builddir();
my $dir = Edgehaul->dir('bin');
for my $who (qw(proxy agent)) {
	my $copy = "$dir/edgehaul-$who";
	File::Copy::copy("$build/$who/edgehaul-$who", $copy) or die "copy: $!";
	my ($rc, $out, $err) = Edgehaul->run('strip', $copy);
	is($rc, 0, "strip $who") or diag($err);
	my $size = -s $copy;
	cmp_ok($size, '<=', 1.5 * 1024 * 1024, "$who: $size octets of own code");
}

my $site = Edgehaul->site;
ok($site->put('/upload/cam-1/a.jpg', jpeg()), 'an upload');
ok($site->drained, 'delivered');
my %most = (proxy => 4096, agent => 8192); # kB
for my $who (sort keys %most) {
	my $kb = $site->$who->proc('RssAnon');
	cmp_ok($kb, '<=', $most{$who}, "$who: $kb kB of RssAnon when idle");
}
finish;
