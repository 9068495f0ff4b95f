#!/usr/bin/perl
# Two signers over one PostgreSQL behind haproxy: what one is told the other
# acts on at once; one is killed under load; the database goes and comes back.
use strict;
use warnings;
use Test::More;
use Edgehaul;
use Time::HiRes qw(time sleep);

plan(skip_all => 'built without PostgreSQL (Debian: libpq-dev)')
    if slurp(Edgehaul::top_builddir() . '/config.h') !~ /^#define HAVE_PQ 1/m;
Edgehaul->need_all('postgresql', 'haproxy');

my $slow = Edgehaul::slowness();
my $pg = Edgehaul->postgresql;
my $uri = $pg->uri;
my @s = map { Edgehaul->signer(name => "signer-$_", conf =>
	"database = $uri\nmetrics_address = 127.0.0.1:0") } 0, 1;
my $admin = $s[0]->admin;
my $gw = $s[0]->token('gateway', '--gateway', 'gw-1');
$s[0]->start;
spit("$s[1]{dir}/state/seal.key", slurp("$s[0]{dir}/state/seal.key"));
chmod 0600, "$s[1]{dir}/state/seal.key";
$s[1]->start;

my $front = Edgehaul->haproxy(map { $_->url =~ m{//(.*)} } @s);
my @at = (map({ $_->url } @s), $front->url); # 0, 1, 2: either

sub call {
	my ($i, $method, $path, %o) = @_;
	return Edgehaul::http($method, $at[$i] . $path, token => $admin, %o);
}
sub sign {
	my ($i, %o) = @_;
	return call($i, 'POST', '/v1/sign', token => $gw, json => { uploads =>
		[{ id => 'a', key => 'k', device => 'cam-1', size => 1 }] }, %o);
}
sub report {
	my ($id) = @_;
	return call(2, 'POST', '/v1/reports', token => $gw,
	    json => { reports => [{ id => $id, outcome => 'delivered' }] });
}
sub block {
	my ($i, $blocked) = @_;
	return call($i, 'PUT', '/v1/gateways/gw-1/devices/cam-1', json =>
		{ blocked => $blocked ? JSON::PP::true() : JSON::PP::false() });
}
sub poll {
	my ($i, $version) = @_;
	return child(sub { call($i, 'GET', "/v1/updates?after=$version",
		token => $gw, timeout => 60)->{content} });
}
sub version { call($_[0], 'GET', '/v1/updates', token => $gw)->{json}{version} }

# ---- at once --------------------------------------------------------------

my %s3 = (type => 'S3', bucket => 'first', accessKeyId => 'AK',
    secretAccessKey => 'SK');
is(call(0, 'PUT', '/v1/storages/default', json => \%s3)->{status}, 201,
    'a storage set at one');
like(sign(1)->{json}{results}[0]{recipe}{uri} // '', qr{//first\.},
    'is signed for at the other');
call(1, 'PUT', '/v1/storages/default', json => { %s3, bucket => 'second' });
like(sign(0)->{json}{results}[0]{recipe}{uri} // '', qr{//second\.},
    'and a change of it the other way');

# Old records of the audit log go with new ones; the young stay.
my $young = sprintf '%016x', (time - 86400) * 1000 << 12;
$pg->sql("INSERT INTO edgehaul_rows (kind, tenant, id, doc) VALUES ('audit', "
    . "'acme'::bytea, '$_'::bytea, '{}'::bytea)") for '000' . 'a' x 13, $young;
block(0, 0);
is($pg->sql("SELECT string_agg(convert_from(id, 'UTF8'), ' ') FROM edgehaul_rows "
    . "WHERE kind = 'audit' AND doc = '{}'::bytea") =~ s/\s+//gr, $young,
    'audit_keep: what is older than 400 days is gone');
$pg->sql("DELETE FROM edgehaul_rows WHERE kind = 'audit' AND doc = '{}'::bytea");

my $wrong = 0;
for my $n (1 .. 10) {
	my ($here, $there) = ($n % 2, 1 - $n % 2);
	block($here, 1);
	$wrong++ if (sign($there)->{json}{results}[0]{error}{do} // '') ne 'hold';
	block($there, 0);
	$wrong++ if !sign($here)->{json}{results}[0]{recipe};
}
is($wrong, 0, 'a block through one acts at once at the other');

# The best of three: a busy machine is no fault of the signer's.
my ($fh, $began, $took, $device);
for (1 .. 3) {
	$fh = poll(1, version(1));
	$s[1]->wait_polls(1);
	$began = time;
	block(0, 1);
	$device = json_decode(<$fh>)->{devices}[0]{device};
	$took = time - $began;
	block(1, 0);
	last if $took < 1 * $slow;
}
is($device, 'cam-1', 'a gateway that waits at the other is told');
cmp_ok($took, '<', 1 * $slow, 'within a second');

my $made = call(0, 'POST', '/v1/tokens', json => { role => 'publisher' });
is(call(1, 'GET', '/v1/storages', token => $made->{json}{token})->{status}, 403,
    'a token made at one is known at the other');
call(1, 'DELETE', "/v1/tokens/$made->{json}{id}");
is(call(0, 'GET', '/v1/storages', token => $made->{json}{token})->{status}, 401,
    'and ended');
is(call($_, 'PUT', '/v1/storages/one', json => \%s3, headers =>
	{ 'if-none-match' => '*' })->{status}, $_ == 0 ? 201 : 412,
    "If-None-Match: * at $_") for 0, 1;

# ---- one is killed under load ---------------------------------------------

# Each client goes on by itself: reports with ids of its own, told again until
# they are taken, and signings. Prints what went wrong.
my $until = time + 3 * $slow;
my @clients = map { my $c = $_; child(sub {
	my ($n, $failed, $longest, @odd) = (0, 0, 0);
	while (time < $until) {
		my $id = "c$c-" . ++$n;
		my $tries = 0;
		while (1) {
			my $r = $n % 2 ? sign(2) : report($id);
			last if $r->{status} == 200
			    && ($n % 2 || $r->{json}{accepted}
				+ $r->{json}{repeated} == 1);
			push @odd, "$r->{status} $r->{content}" if @odd < 3;
			$failed++ if !$tries;
			last if ++$tries > 20;
			sleep 0.02;
		}
		$longest = $tries if $tries > $longest;
	}
	return json_encode({ n => $n, failed => $failed, longest => $longest,
		odd => \@odd });
}) } 1 .. 8;
sleep 1;
$s[0]->kill9;
my @told = map { my $f = $_; json_decode(join '', <$f>) } @clients;
my ($total, $failed) = (0, 0);
for (@told) { $total += $_->{n}; $failed += $_->{failed} }
cmp_ok($total, '>', 40, "load: $total requests");
is((grep { $_->{failed} > 1 } @told), 0,
    'no client loses more than what it had under way') or diag json_encode(\@told);
is((grep { $_->{longest} > 1 } @told), 0, 'and its next request is answered')
    or diag json_encode(\@told);
diag("$failed of $total requests broke with the killed signer") if $failed;
my $lost = 0;
for my $c (1 .. 8) {
	for (my $n = 2; $n <= $told[$c - 1]{n}; $n += 2) {
		next if $n % 10; # some of them
		$lost++ if !report("c$c-$n")->{json}{repeated};
	}
}
is($lost, 0, 'all that was acknowledged is kept');
$s[0]->start;
is(sign(0)->{status}, 200, 'it starts again over the same state');

# Many changes of one row, through both.
my $from = version(0);
my @blockers = map { my $c = $_; child(sub {
	join ',', map { call($c % 2, 'PUT', "/v1/gateways/gw-1/devices/d-$c",
		json => { blocked => JSON::PP::true(), note => "$_" })->{status} }
	    1 .. 10;
}) } 1 .. 4;
is(scalar(grep { !/^201(,200){9}$/ } map { my $f = $_; <$f> } @blockers), 0,
    'changes through both at once all succeed');
is(version(1) - $from, 40, 'and each is counted');

# ---- the database goes away -----------------------------------------------

$fh = poll(1, version(1));
ok($s[1]->wait_polls(1), 'a gateway waits');
$pg->halt;
$began = time;
my $r = sign(2);
is($r->{status}, 503, 'no database: 503');
ok($r->{headers}{'retry-after'}, 'with Retry-After');
is($r->{headers}{'content-type'}, 'application/problem+json', 'a problem');
is(call($_, 'GET', '/v1/storages')->{status}, 503, "reading, at $_") for 0, 1;
is(block($_, 1)->{status}, 503, "changing, at $_") for 0, 1;
my @many = map { child(sub { sign(2)->{status} }) } 1 .. 10;
is_deeply([map { my $f = $_; <$f> } @many], [(503) x 10], 'many at once');
cmp_ok(time - $began, '<', 5 * $slow, 'none of them is kept waiting');
is(call(0, 'GET', '/health')->{status}, 200, 'the process itself is well');
like($s[0]->log, qr/error.*database is away/, 'the log tells once');
unlike($s[0]->log, qr/database is away.*database is away/s, 'and once only');
sleep 2; # some looks of the long polls
$pg->start;
ok(wait_for(sub { sign(0)->{status} == 200 && sign(1)->{status} == 200 }, 10),
    'it is back: so are they');
like($s[0]->log, qr/info.*database is back/, 'the log tells');
is(block(0, 1)->{status}, 200, 'a block');
is((grep { $_->{device} eq 'cam-1' } @{ json_decode(<$fh>)->{devices} }), 1,
    'reaches a gateway that waited all the time');
block(0, 0);

# Connections that broke while nobody used them cost nobody anything.
$pg->halt->start;
is(sign($_)->{status}, 200, "a restart that nobody saw, at $_") for 0, 1;
is(block($_, 0)->{status}, 200, "nor for a change, at $_") for 0, 1;

# A server that says nothing at all, as behind a broken network.
sub postgres_pids {
	my @pids = $pg->pid;
	for my $stat (glob '/proc/[0-9]*/stat') {
		my $s = eval { slurp($stat) } or next;
		push @pids, $1 if $s =~ /^(\d+) \(.*\) \S (\d+)/s
		    && $2 == $pg->pid;
	}
	return @pids;
}
my @frozen = postgres_pids();
kill 'STOP', @frozen;
$began = time;
$r = eval { sign(1, timeout => 15) };
is($r->{status}, 503, 'a database that hangs: 503');
cmp_ok(time - $began, '<', 9 * $slow, 'in bounded time');
is(call(1, 'GET', '/health')->{status}, 200, 'the loop never waited');
kill 'CONT', @frozen;
ok(wait_for(sub { sign(0)->{status} == 200 && sign(1)->{status} == 200 }, 15),
    'it goes on');

# ---- TLS to the database ---------------------------------------------------

SKIP: {
	need(8, 'openssl');
	my $ca = Edgehaul->dir('ca');
	for (qw(right wrong)) {
		Edgehaul->run('openssl', 'req', '-x509', '-newkey', 'rsa:2048',
			'-nodes', '-days', '2', '-subj', '/CN=localhost',
			'-addext', 'subjectAltName=IP:127.0.0.1',
			'-keyout', "$ca/$_.key", '-out', "$ca/$_.crt");
	}
	chmod 0755, $ca;
	$pg->tls("$ca/right.crt", "$ca/right.key")->halt->start;
	my $t = Edgehaul->signer(name => 'signer-tls', conf =>
		"database = $uri?sslmode=verify-full&sslrootcert=$ca/right.crt");
	spit("$t->{dir}/state/seal.key", slurp("$s[0]{dir}/state/seal.key"));
	chmod 0600, "$t->{dir}/state/seal.key";
	$t->start;
	push @at, $t->url;
	is(sign(3)->{status}, 200, 'a signer with TLS to the database');
	cmp_ok($pg->sql('SELECT count(*) FROM pg_stat_ssl JOIN pg_stat_activity '
		. "USING (pid) WHERE ssl AND application_name = 'edgehaul-signer'"),
	    '>', 0, 'it is TLS');
	my %status = map { $_ => 'x' x 60 } 1 .. 400; # longer than a record
	is(call(3, 'POST', '/v1/reports', token => $gw,
		json => { status => \%status })->{status}, 200, 'a long row');
	is_deeply(call(3, 'GET', '/v1/gateways/gw-1')->{json}{status}, \%status,
	    'comes back');
	$pg->halt;
	is(sign(3)->{status}, 503, 'it goes away');
	$pg->start;
	ok(wait_for(sub { sign(3)->{status} == 200 }, 10), 'and comes back');
	$t->stop;
	my $conf = slurp("$t->{dir}/signer.conf") =~ s/right\.crt/wrong.crt/r;
	my ($status, undef, $why) = Edgehaul::run(undef, $t->{program},
		'--config', spit("$t->{dir}/wrong.conf", $conf));
	is($status, 73, 'another certificate is not taken');
	like($why, qr/certificate verify failed/, 'and that is said');
}

# ---- ending, and starting without it --------------------------------------

$pg->halt;
$began = time;
ok($s[0]->stop, 'SIGTERM without a database');
cmp_ok(time - $began, '<', 5 * $slow, 'ends in time');
my ($rc, undef, $err) = Edgehaul::run(undef, $s[0]{program}, '--config',
    "$s[0]{dir}/signer.conf");
is($rc, 73, 'it does not start without it');
like($err, qr/database: .*refused/, 'and says why');
is((Edgehaul::run(undef, $s[0]{program}, '--config', spit("$s[0]{dir}/bad.conf",
    "[signer]\ndatabase = postgresql://u:sEcret%zz\@h/x\n"), '--check'))[0], 78,
    'a URI that cannot be read is a mistake of the configuration');
finish;
