#!/usr/bin/perl
# The signer's state in PostgreSQL: the tests of the store and of the API once
# more, two signers over one database, and a database that goes away.
use strict;
use warnings;
use Test::More;
use Edgehaul;
use Time::HiRes 'time';

my $build = Edgehaul::top_builddir();
my $top = Edgehaul::top_srcdir();
plan(skip_all => 'built without PostgreSQL (Debian: libpq-dev)')
    if !grep { /^#define HAVE_PQ 1/ } split /\n/, slurp("$build/config.h");
my ($bin) = glob '/usr/lib/postgresql/*/bin/initdb';
if (!defined $bin) {
	plan(skip_all => 'postgresql not installed (Debian: postgresql)')
	    if !$ENV{EDGEHAUL_REQUIRED};
	fail('postgresql not installed');
	finish;
	exit 1;
}

my $dir = Edgehaul->dir('pg');
my $port = Edgehaul::free_port();
my $pid = $$;
sub pg { system("$top/t/lib/backends/postgresql", $_[0], $dir, $port) }
END { my $status = $?; pg('stop') if defined $pid && $$ == $pid; $? = $status }
is(pg('start'), 0, 'PostgreSQL runs');
my $uri = "postgresql://postgres\@127.0.0.1:$port/postgres";

sub passes {
	my ($name, @command) = @_;
	local $ENV{TEST_DATABASE} = $uri;
	my $out = `@command 2>&1`;
	ok($? == 0 && $out !~ /^not ok/m, $name) or diag($out);
}
passes('the tests of the store', "$build/t/unit/store.t")
    if -x "$build/t/unit/store.t";
passes('the tests of the API', $^X, "$top/t/40-signer-api.t");

# ---- two signers ----------------------------------------------------------

my @s = map { Edgehaul->signer(conf => "database = $uri", tenant => 'two') } 1, 2;
my $admin = $s[0]->admin;
my $gw = $s[0]->token('gateway', '--gateway', 'gw-1');
$s[0]->start;
mkdir "$s[1]{dir}/state";
spit("$s[1]{dir}/state/seal.key", slurp("$s[0]{dir}/state/seal.key"));
chmod 0600, "$s[1]{dir}/state/seal.key";
$s[1]->start;

sub call {
	my ($i, $method, $path, %o) = @_;
	return Edgehaul::http($method, $s[$i]->url . $path, token => $admin, %o);
}
sub sign {
	my ($i) = @_;
	return call($i, 'POST', '/v1/sign', token => $gw, json => { uploads =>
		[{ id => 'a', key => 'k', device => 'cam-1', size => 1 }] });
}
my %s3 = (type => 'S3', bucket => 'uploads', accessKeyId => 'AK',
    secretAccessKey => 'SK');
is(call(0, 'PUT', '/v1/storages/default', json => \%s3)->{status}, 201,
    'a storage set at one');
ok(sign(1)->{json}{results}[0]{recipe}, 'is signed for at the other');
my $version = call(1, 'GET', '/v1/updates', token => $gw)->{json}{version};
my $child = open my $fh, '-|';
if ($child == 0) {
	print call(1, 'GET', "/v1/updates?after=$version", token => $gw)->{content};
	close STDOUT;
	require POSIX;
	POSIX::_exit(0);
}
Time::HiRes::sleep(0.7);
my $began = time;
is(call(0, 'PUT', '/v1/gateways/gw-1/devices/cam-1', json =>
	{ blocked => JSON::PP::true() })->{status}, 201, 'a block through one');
is(sign(1)->{json}{results}[0]{error}{do}, 'hold', 'acts at once at the other');
is(json_decode(<$fh>)->{devices}[0]{device}, 'cam-1', 'and is told there');
cmp_ok(time - $began, '<', 1.2 * Edgehaul::slowness(), 'within a second');
$s[0]->kill9;
is(call(1, 'PUT', '/v1/gateways/gw-1/devices/cam-1', json =>
	{ blocked => JSON::PP::false() })->{status}, 200, 'one killed: the other works');
ok(sign(1)->{json}{results}[0]{recipe}, 'and signs');

# Changes of one row from many sides are all counted.
my @children;
for my $n (1 .. 4) {
	my $p = fork // die;
	if ($p == 0) {
		my $ok = grep { call(1, 'POST', '/v1/reports', token => $gw,
			json => { reports => [{ id => "r$n-$_", outcome =>
				'delivered' }] })->{json}{accepted} } 1 .. 10;
		require POSIX;
		POSIX::_exit($ok == 10 ? 0 : 1);
	}
	push @children, $p;
}
my $bad = 0;
for (@children) { waitpid $_, 0; $bad += $? != 0 }
is($bad, 0, 'reports side by side');

# ---- the database goes away -----------------------------------------------

pg('stop');
my $r = sign(1);
is($r->{status}, 503, 'no database: 503');
ok($r->{headers}{'retry-after'}, 'with Retry-After');
is(call(1, 'GET', '/v1/storages')->{status}, 503, 'for all calls');
pg('start');
ok(wait_for(sub { sign(1)->{status} == 200 }, 10), 'it is back: so are we');
finish;
