#!/usr/bin/perl
# The signer's state and certificates: backup and restore with and without its
# key, a database that is full, a thousand gateways that wait, TLS and its
# reload, certificates of stores that are going to end.
use strict;
use warnings;
use Test::More;
use Edgehaul;
use Time::HiRes qw(time sleep);

my $slow = Edgehaul::slowness();
my $s = Edgehaul->signer(conf => "metrics_address = 127.0.0.1:0\n"
	. "database_size = 4 MB\nrate_limit = none");
my $admin = $s->admin;
my $gw = $s->token('gateway', '--gateway', 'gw-1');
$s->start;
like($s->new_log, qr/seal\.key made: back it up/, 'a new key is told of');
my %s3 = (type => 'S3', bucket => 'bkt', accessKeyId => 'AK',
    secretAccessKey => 'SK');

sub sign_at {
	my ($signer, @storages) = @_;
	return map { $_->{recipe} ? $_->{recipe}{uri} =~ s/\?.*//r
		: "$_->{error}{status} $_->{error}{do} $_->{error}{title}" }
	    @{ Edgehaul::http('POST', $signer->url . '/v1/sign', token => $gw,
		json => { uploads => [map { { id => $_, key => 'k',
			storage => $_ } } @storages] })->{json}{results} };
}
sub metrics {
	my ($address) = $s->log =~ /.*name=metrics address=(\S+)/s;
	return Edgehaul::http('GET', "http://$address/metrics")->{content};
}

# ---- a certificate that is going to end ------------------------------------

SKIP: {
	need(4, 'openssl');
	my ($soon) = Edgehaul->certificate('-days', 20);
	my ($late) = Edgehaul->certificate('-days', 400);
	$s->storage('soon', %s3, certificate => slurp($soon));
	$s->storage('late', %s3, certificate => slurp($late));
	like(join("\n", @{ $s->rest('GET', '/v1/storages/soon')
		->{json}{warnings} }), qr/^certificate expires in (19|20) days$/,
	    'warned of 30 days ahead');
	is_deeply($s->rest('GET', '/v1/storages/late')->{json}{warnings}, [],
	    'not earlier');
	my ($at) = metrics() =~ /^edgehaul_signer_storage_certificate_expiry_timestamp_seconds\{tenant="acme",storage="soon"\} (\d+)$/m;
	cmp_ok(abs(($at // 0) - time - 20 * 86400), '<', 3600, 'a metric of it');
	$s->stop;
	$s->start;
	ok(wait_for(sub { $s->new_log =~
		m{warn.*storage=acme/soon its certificate expires within 30 days} }),
	    'and a line of the log');
	unlike($s->new_log, qr{acme/late its certificate}, 'of that one only');
}
SKIP: {
	need(1, 'promtool');
	my $file = spit(Edgehaul->dir . '/metrics', metrics());
	is(`promtool check metrics < $file 2>&1`, '', 'promtool finds nothing');
	is($?, 0, 'and says so');
}

# ---- backup and restore ------------------------------------------------------

# Another signer over a copy of the state.
sub over_copy {
	my ($name, $database, $key) = @_;
	my $t = Edgehaul->signer(name => $name);
	mkdir "$t->{dir}/state/database";
	spit("$t->{dir}/state/database/data.mdb",
	    slurp("$database/data.mdb"));
	if ($key) {
		spit("$t->{dir}/state/seal.key", slurp($key));
		chmod 0600, "$t->{dir}/state/seal.key";
	}
	return $t->start;
}
$s->storage('sealed', %s3);
$s->storage('file', type => 'FILE');
SKIP: {
	need(8, 'mdb_copy');
	# while changes are being made
	my $pid = fork // die;
	if ($pid == 0) {
		my $n = 0;
		while (1) {
			Edgehaul::http('PUT', $s->url . '/v1/gateways/busy',
				token => $admin, json => { note => ++$n });
		}
	}
	sleep 0.2;
	my $copy = Edgehaul->dir('copy');
	my ($rc, undef, $err) = Edgehaul->run('mdb_copy',
	    "$s->{dir}/state/database", $copy);
	is($rc, 0, 'a copy while it runs') or diag($err);
	kill 'KILL', $pid;
	waitpid $pid, 0;

	my $t = over_copy('restored', $copy, "$s->{dir}/state/seal.key");
	like((sign_at($t, 'sealed'))[0], qr{^https://bkt\.s3}, 'restored: signs');
	is(Edgehaul::http('GET', $t->url . '/v1/storages', token => $admin)
	    ->{status}, 200, 'restored: tokens are good');
	unlike($t->log, qr/seal\.key is not|cannot be unsealed/,
	    'restored: nothing is amiss');
	$t->stop;

	$t = over_copy('keyless', $copy);
	ok(wait_for(sub { $t->log =~ /error.*seal\.key is not the one/ }),
	    'without its key: said at the start') or diag($t->log);
	like($t->log, qr{error.*acme/sealed cannot be unsealed.*set it anew},
	    'which storages, and what to do');
	my ($sealed, $file) = sign_at($t, 'sealed', 'file');
	like($sealed, qr/^503 wait .*unsealed/, 'such a storage has to wait');
	like($file, qr{^http://}, 'one without secrets works');
	my $r = Edgehaul::http('PUT', $t->url . '/v1/storages/sealed',
	    token => $admin, json => \%s3);
	is($r->{status}, 200, 'set anew') or diag($r->{content});
	like((sign_at($t, 'sealed'))[0], qr{^https://bkt\.s3}, 'it works again');
	$t->stop;
}

# ---- the key is rotated: beside a signer that runs, and cut off ---------------

my $key_file = "$s->{dir}/state/seal.key";
my $old_key = slurp($key_file);
my @rotate = ($s->{program}, '--config', "$s->{dir}/signer.conf", 'key',
    'rotate');
is((Edgehaul->run(@rotate))[0], 0, 'rotated beside a signer that runs');
my $refused = $s->rest('PUT', '/v1/storages/later', json => \%s3);
is($refused->{status}, 503, 'which seals nothing by the old key any more');
like($refused->{json}{hint}, qr/[Rr]estart/, 'and says what to do');
$s->stop;
$s->start;
is($s->rest('PUT', '/v1/storages/later', json => \%s3)->{status}, 201,
    'after a restart it does');
like((sign_at($s, 'sealed'))[0], qr{^https://bkt\.s3}, 'and signs');
$s->stop;
rename $key_file, "$key_file.next"; # as after a cut before its last step
spit($key_file, $old_key);
chmod 0600, $key_file;
$s->start;
like($s->new_log, qr/error.*rotation of the key was cut off.*rotate again/,
    'a rotation that was cut off is told of');
$s->stop;
is((Edgehaul->run(@rotate))[0], 0, 'rotated again');
$s->start;
unlike($s->new_log, qr/error/, 'nothing is amiss');
like((sign_at($s, 'sealed'))[0], qr{^https://bkt\.s3}, 'it signs');

# ---- a storage that was replaced is kept for a week ----------------------------

SKIP: {
	skip('no faketime with sanitizers', 1) if Edgehaul::sanitized();
	my ($faketime) = glob '/usr/lib/*/faketime/libfaketimeMT.so.1';
	need(6, 'faketime');
	my %up = (id => 'm', key => 'm', storage => 'moved', size => 12 << 20);
	my $sign = sub { Edgehaul::http('POST', $s->url . '/v1/sign',
		token => $gw, json => { uploads => [{ %up, @_ }] })
		->{json}{results}[0] };
	my $hosts = sub { [map { @{ $_->{hosts} } } grep { $_->{name} eq 'moved' }
		@{ Edgehaul::http('GET', $s->url . '/v1/updates', token => $gw)
			->{json}{storages} }] };
	$s->storage('moved', %s3, partSize => 5 << 20);
	my $text = $sign->()->{recipe}{requests}[0]{keep}{storage}{text};
	ok($text, 'the start tells which storage it is');
	my @abort = (step => 'abort', kept => { uploadId => 'u',
		storage => $text });
	$s->storage('moved', %s3, bucket => 'next', partSize => 5 << 20);
	like($sign->(@abort)->{recipe}{uri}, qr{//bkt\.}, 'kept');
	is(scalar @{ $hosts->() }, 2, 'with its host');
	$s->stop;
	{
		local %ENV = (%ENV, LD_PRELOAD => $faketime, FAKETIME => '+8d',
		    FAKETIME_DONT_FAKE_MONOTONIC => 1);
		$s->start;
	}
	is($sign->(@abort)->{error}{do}, 'start', 'not after a week');
	is(scalar @{ $hosts->() }, 1, 'nor its host');
	$s->stop;
	$s->start;
	ok(wait_for(sub { ($sign->(@abort)->{error}{do} // '') eq 'start' }),
	    'it is gone for good');
}

# ---- a thousand gateways wait ------------------------------------------------

my @polls = $s->polls($gw, 1000);
ok(wait_for(sub { $s->metric('long_polls') == 1000 }, 30), 'a thousand long polls wait')
    or diag($s->metric('long_polls'));
my $began = time;
sign_at($s, 'file') for 1 .. 20;
cmp_ok(time - $began, '<', 5 * $slow, 'signing goes on meanwhile');
$began = time;
$s->rest('PUT', '/v1/gateways/gw-1/devices/cam-1',
    json => { blocked => JSON::PP::true() });
my $told = grep { my $r = $_->response;
	$r && $r->{status} == 200 && $r->{json}{devices}[0]{device} eq 'cam-1' }
    @polls;
my $took = time - $began;
is($told, 1000, 'all are told of a block');
cmp_ok($took, '<', 5 * $slow, sprintf 'in %.2f s', $took);
@polls = ();
ok(wait_for(sub { $s->metric('long_polls') == 0 }), 'none is left');

# ---- a full database ----------------------------------------------------------

my ($n, $r) = 0;
while ($n < 4000) {
	$r = $s->rest('PUT', '/v1/gateways/fill-' . ++$n,
	    json => { note => 'n' x 1000, prefix => 'p' x 100 });
	last if $r->{status} != 201;
}
is($r->{status}, 507, 'a full database: 507') or diag("$n $r->{content}");
like($r->{json}{hint}, qr/database_size/, 'and what to do');
is((sign_at($s, 'file'))[0] =~ m{^http://} ? 1 : 0, 1, 'signing goes on');
is($s->rest('GET', '/v1/storages')->{status}, 200, 'so does reading');
is(Edgehaul::http('POST', $s->url . '/v1/reports', token => $gw, json => {
	reports => [{ id => 'full', outcome => 'delivered' }] })->{status}, 507,
    'reports have to come again');
is($s->rest('PUT', "/v1/gateways/gw-1/devices/$_", json =>
	{ blocked => JSON::PP::true() })->{status}, $_ eq 'cam-1' ? 200 : 201,
    "blocking $_ always goes") for 'cam-1', 'cam-2';
is($s->rest('PUT', '/v1/gateways/fill-1', json =>
	{ blocked => JSON::PP::true() })->{status}, 200, 'of a gateway, too');
is($s->rest('DELETE', "/v1/gateways/fill-$_")->{status}, 204, "delete $_")
    for 1 .. 5;
for my $i (6 .. $n - 1) {
	$r = $s->rest('DELETE', "/v1/gateways/fill-$i");
	last if $r->{status} != 204;
}
is($r->{status}, 204, 'deleting always fits') or diag($r->{content});
$s->stop;
ok($s->start, 'it starts again');

# ---- TLS ----------------------------------------------------------------------

SKIP: {
	need(8, 'openssl', 'curl');
	my $t = Edgehaul->signer(name => 'tls', conf =>
		"cert_file = CERT/cert.pem\nkey_file = CERT/key.pem\n"
		. 'metrics_address = 127.0.0.1:0');
	my $dir = Edgehaul->dir('tls');
	my @pairs = map { [Edgehaul->certificate] } 1, 2;
	my $use = sub {
		spit("$dir/cert.pem", slurp($_[0][0]));
		spit("$dir/key.pem", slurp($_[0][1]));
		chmod 0600, "$dir/key.pem";
	};
	my $conf = "$t->{dir}/signer.conf";
	spit($conf, slurp($conf) =~ s/CERT/$dir/gr =~ s{http://}{https://}r);
	$use->($pairs[0]);
	$t->start;
	my $url = $t->url =~ s/http:/https:/r;
	my $get = sub {
		my ($rc, $out) = Edgehaul->run('curl', '-s', '--cacert',
			"$_[0][0]", @_[1 .. $#_], "$url/health");
		return "$rc $out";
	};
	like($get->($pairs[0]), qr/^0 .*"ok":true/, 'https');
	ok(wait_for(sub { $t->log =~
		/warn.*certificate of cert_file expires within 30 days/ }),
	    'its own certificate is watched, too');
	cmp_ok(abs($t->metric('certificate_expiry_timestamp_seconds') - time
		- 2 * 86400), '<', 3600, 'and a metric');
	like($get->($pairs[0], '--tls-max', '1.2'), qr/^0 /, 'TLS 1.2');
	like($get->($pairs[0], '--tlsv1.3'), qr/^0 /, 'TLS 1.3');
	unlike($get->($pairs[0], '--tlsv1.0', '--tls-max', '1.1', '--ciphers',
		'ALL:@SECLEVEL=0'), qr/^0 /, 'TLS 1.1 is refused');
	like($get->($pairs[1]), qr/^60 /, 'another certificate is not its');
	$use->($pairs[1]);
	$t->hup;
	ok(wait_for(sub { $get->($pairs[1]) =~ /^0 / }), 'SIGHUP: the new one');
	spit("$dir/cert.pem", 'rubbish');
	$t->hup;
	ok(wait_for(sub { $t->log =~ /error.*cert_file/ }),
	    'one that cannot be read is told');
	like($get->($pairs[1]), qr/^0 /, 'and the one there was stays');
}
finish;
