#!/usr/bin/perl
# The signer's state in PostgreSQL: the tests of the API once more. Those of
# the store are t/unit/store_pg.t; two signers are t/45-two-signers.t.
use strict;
use warnings;
use Test::More;
use Edgehaul;
use Time::HiRes 'time';

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

# ---- a thousand gateways wait: they hold no connection of the database ------

$pg->sql('CREATE DATABASE polls'); # with a key of its own
my $conf = 'rate_limit = none';
my @s = map { Edgehaul->signer(name => "s$_", tenant => 'polls', conf =>
	"$conf\nmetrics_address = 127.0.0.1:0\ndatabase = "
    . $pg->uri('polls')) } 0, 1;
my $gw = $s[0]->token('gateway', '--gateway', 'gw-1');
$s[0]->admin;
$s[1]{admin} = $s[0]{admin};
$s[0]->start;
sub same_key {
	my ($to) = @_;
	spit("$to->{dir}/state/seal.key", slurp("$s[0]{dir}/state/seal.key"));
	chmod 0600, "$to->{dir}/state/seal.key";
	return $to->start;
}
same_key($s[1]);
$s[0]->storage('default', type => 'S3', bucket => 'bkt', accessKeyId => 'A',
    secretAccessKey => 'S');
my @polls = $s[0]->polls($gw, 1000);
ok(wait_for(sub { $s[0]->metric('long_polls') == 1000 }, 30),
    'a thousand long polls');
my $ours = "FROM pg_stat_activity WHERE application_name = 'edgehaul-signer'";
cmp_ok($pg->sql("SELECT count(*) $ours"), '<=', 32, 'few connections');
# They look at the rows now and then; a poll that held a transaction while it
# waits would be seen at every look.
ok(wait_for(sub { $pg->sql("SELECT count(*) $ours AND state LIKE 'idle in%'") == 0 }, 30),
    'none of them keeps a transaction');
my $sign = sub { Edgehaul::http('POST', $_[0]->url . '/v1/sign', token => $gw,
	json => { uploads => [{ id => 'a', key => 'k' }] }) };
my $began = time;
is(scalar(grep { $sign->($s[0])->{json}{results}[0]{recipe} } 1 .. 50), 50,
    'signing goes on');
cmp_ok(time - $began, '<', 8 * Edgehaul::slowness(), 'as ever');
$began = time;
is($s[1]->rest('PUT', '/v1/gateways/gw-1/devices/cam-1',
	json => { blocked => JSON::PP::true() })->{status}, 201,
    'a block, through the other signer');
is(scalar(grep { my $r = $_->response; $r && $r->{status} == 200
	&& ($r->{json}{devices}[0]{device} // '') eq 'cam-1' } @polls), 1000,
    'all are told');
cmp_ok(time - $began, '<', 8 * Edgehaul::slowness(),
    sprintf 'in %.2f s', time - $began);
@polls = ();

# ---- backup and restore ------------------------------------------------------

SKIP: {
	need(4, 'pg_dump');
	my $copy = Edgehaul->dir . '/backup.sql';
	Edgehaul->run('pg_dump', '-f', $copy, $pg->uri('polls'));
	$pg->sql('CREATE DATABASE restored');
	my ($rc, undef, $err) = Edgehaul->run('psql', '-qX', '-v',
	    'ON_ERROR_STOP=1', '-f', $copy, $pg->uri('restored'));
	is($rc, 0, 'restored into another database') or diag($err);
	my $t = same_key(Edgehaul->signer(name => 'restored', tenant => 'polls',
		conf => 'database = ' . $pg->uri('restored')));
	ok($sign->($t)->{json}{results}[0]{recipe}, 'it signs');
	unlike($t->log, qr/seal\.key is/, 'nothing is amiss');
	is($t->rest('GET', '/v1/gateways/gw-1/devices/cam-1',
		token => $s[0]{admin})->{json}{blocked}, JSON::PP::true(),
	    'and the block is there');
}
finish;
