#!/usr/bin/perl
# The man pages are well-formed, and tell all commands and exit codes.
use strict;
use warnings;
use Test::More;
use Edgehaul;
use Edgehaul::Daemon;

my $top = Edgehaul::top_srcdir();
my @pages = glob "$top/doc/*.[1-8]";
cmp_ok(scalar(@pages), '>=', 4, 'there are man pages');

SKIP: {
	need(scalar(@pages), 'mandoc');
	for my $page (@pages) {
		# That our pages are not installed yet is no fault of theirs.
		my @faults = grep { !/referenced manual not found/ }
		    `mandoc -Tlint '$page' 2>&1`;
		is(join('', @faults), '', "$page is clean");
	}
}

# What --help tells, the page tells.
my ($rc, $help) = Edgehaul->run(
	Edgehaul::top_builddir() . '/ctl/edgehaul', '--help');
is($rc, 0, 'edgehaul --help');
$help =~ s/^Examples:.*//ms;
my $page = slurp("$top/doc/edgehaul.1");
my @commands = $help =~ /^  ([a-z][a-z-]+(?: [a-z]+)?)(?= )/mg;
cmp_ok(scalar(@commands), '>=', 6, 'it lists commands');
ok($page =~ /^\.It Cm \Q$_\E\b/m, "edgehaul(1) has $_") for @commands;
for my $code (0, 64, 69, 74, 75, 77, 78) {
	ok($page =~ /^\.It $code$/m, "edgehaul(1) has exit code $code");
}
finish;
