#!/usr/bin/perl
# The signer's state in PostgreSQL: the tests of the API once more. Those of
# the store are t/unit/store_pg.t; two signers are t/45-two-signers.t.
use strict;
use warnings;
use Test::More;
use Edgehaul;

my $build = Edgehaul::top_builddir();
plan(skip_all => 'built without PostgreSQL (Debian: libpq-dev)')
    if slurp("$build/config.h") !~ /^#define HAVE_PQ 1/m;
Edgehaul->need_all('postgresql');

my $pg = Edgehaul->postgresql;
{
	local $ENV{TEST_DATABASE} = $pg->uri;
	my $test = Edgehaul::top_srcdir() . '/t/40-signer-api.t';
	my $out = `$^X $test 2>&1`;
	ok($? == 0 && $out !~ /^not ok/m, 'the tests of the API') or diag($out);
}

# What is kept is what the API's tests made, and no secret of theirs.
is($pg->sql("SELECT count(*) FROM edgehaul_rows WHERE kind = 'storage' AND "
	. "convert_from(tenant, 'UTF8') = 'acme'") > 0, 1, 'rows are there');
unlike($pg->sql("SELECT convert_from(doc, 'UTF8') FROM edgehaul_rows"),
    qr/verySecret1|ZWRnZS11cGxvYWQtc2lnbmVyLWZha2U/, 'no secret among them');
finish;
