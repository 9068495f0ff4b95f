#!/usr/bin/perl
# Publishers at an address of their own, with client certificates; and the
# version check over PostgreSQL, with two signers.
use strict;
use warnings;
use Test::More;
use Edgehaul;
use Edgehaul::Publisher;
use Edgehaul::Workstation;

Edgehaul->need_all('openssl', 'curl');
my $dir = Edgehaul->dir('pki');

# A certificate by an authority, or its own.
sub certificate {
	my ($name, $ca, @more) = @_;
	my @by = $ca ? ('-CA', "$dir/$ca.pem", '-CAkey', "$dir/$ca.key") : ();
	my ($rc, undef, $err) = Edgehaul->run('openssl', 'req', '-x509', '-newkey',
		'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '30',
		'-keyout', "$dir/$name.key", '-out', "$dir/$name.pem", '-subj',
		"/CN=$name", @by, @more);
	die $err if $rc != 0;
}
certificate('ca');
certificate('server', 'ca', '-addext', 'subjectAltName=IP:127.0.0.1',
    '-addext', 'basicConstraints=CA:FALSE');
certificate('publishers');
certificate('alice', 'publishers', '-addext', 'basicConstraints=CA:FALSE');
certificate('mallory', 'ca', '-addext', 'basicConstraints=CA:FALSE');

my $port = Edgehaul::free_port();
my $s = Edgehaul->signer(conf => join "\n", "cert_file = $dir/server.pem",
    "key_file = $dir/server.key", "publish_address = 127.0.0.1:$port",
    "client_ca_file = $dir/publishers.pem");
$s->{url} =~ s/^http:/https:/;
spit("$s->{dir}/signer.conf", slurp("$s->{dir}/signer.conf") =~ s/^(public_url = http):/$1s:/mr);
my $admin = $s->admin;
my $token = $s->token('publisher');
$s->start;
like($s->log, qr/listening name=publish address=127\.0\.0\.1:$port/, 'it listens');

# By curl: (status, body).
sub ask {
	my ($method, $url, %o) = @_;
	my ($rc, $out, $err) = Edgehaul->run('curl', '-sS', '-X', $method, '--cacert', "$dir/ca.pem",
	    '-H', "Authorization: Bearer $o{token}", '-w', '\n%{http_code}',
	    $o{cert} ? ('--cert', "$dir/$o{cert}.pem", '--key', "$dir/$o{cert}.key") : (),
	    defined $o{json} ? ('-H', 'Content-Type: application/json', '-d', json_encode($o{json})) : (), $url);
	return (0, $err) if $rc != 0;
	my ($body, $status) = $out =~ /\A(.*)\n(\d+)\z/s;
	return ($status, $body);
}
my $publish = "https://127.0.0.1:$port";
my $api = 'https://' . ($s->{url} =~ m{//(.*)})[0];
is((ask('PUT', "$api/v1/storages/default", token => $admin, json => { type => 'FILE',
	certificate => slurp("$dir/ca.pem") }))[0], 201, 'a storage');
my ($status, $body) = ask('GET', "$publish/v1/firmware", token => $token);
is($status, 403, 'without a certificate: no');
like($body, qr/certificate is needed.*client_cert_file/s, 'and why');
is((ask('GET', "$publish/v1/firmware", token => $token, cert => 'mallory'))[0], 0,
    'with one of another authority not even a handshake');
is((ask('GET', "$publish/v1/firmware", token => $token, cert => 'alice'))[0], 200, 'with one of theirs');
is((ask('GET', "$publish/v1/firmware", token => 'eh.no', cert => 'alice'))[0], 401, 'but not without a token');
($status, $body) = ask('GET', "$api/v1/firmware", token => $token);
is($status, 403, 'nor does a token alone do at the other address');
like($body, qr/publish_address/, 'and why');
is((ask('GET', "$publish/v1/storages", token => $admin, cert => 'alice'))[0], 404,
    'nothing else is served to publishers');
is((ask('GET', "$api/v1/firmware", token => $admin))[0], 200, 'an administrator may, there');

# The command shows its certificate.
my @tls = ("ca_file = $dir/ca.pem");
my $p = Edgehaul::Workstation->new(url => $publish, token => $token, conf => [@tls,
	"client_cert_file = $dir/alice.pem", "client_key_file = $dir/alice.key"]);
$p->keygen;
is(($p->run('product', '--product', 'cam-x'))[0], 0, 'a product');
my ($rc, $out, $err) = $p->run('publish', '--product', 'cam-x', '--version', '1.0.0',
    $p->file('fw.bin', 'x' x 100_000));
is($rc, 0, 'a version is published over TLS, the store is the signer') or diag($err);
my $bare = Edgehaul::Workstation->new(url => $publish, token => $token, key => $p->{key}, conf => \@tls);
($rc, $out, $err) = $bare->run('ls');
is($rc, 77, 'without a certificate it is told');
like($err, qr/client_cert_file/, 'what to set');
my $naive = Edgehaul::Workstation->new(url => $publish, token => $token, key => $p->{key});
($rc, $out, $err) = $naive->run('ls');
is($rc, 69, 'a signer that nobody vouches for');
like($err, qr/ca_file/, 'is told, too');
spit($s->{dir} . '/signer.conf', slurp($s->{dir} . '/signer.conf') =~ s/publishers\.pem/ca.pem/r);
$s->hup;
ok(wait_for(sub { (ask('GET', "$publish/v1/firmware", token => $token, cert => 'mallory'))[0] == 200 }),
    'SIGHUP takes another authority');
for my $wrong (["client_ca_file = $dir/ca.pem", qr/for publish_address, with cert_file/],
    ['publish_address = 0.0.0.0:1', qr/tokens would travel in clear/]) {
	my $conf = spit("$dir/signer.conf", "[signer]\nstate_dir = $dir/state\n$wrong->[0]\n");
	my ($crc, $cout, $cerr) = Edgehaul->run($s->{program}, '--config', $conf, '--check');
	is($crc, 78, "--check: $wrong->[0]");
	like($cout . $cerr, $wrong->[1], 'told');
}

# ---- two signers over one PostgreSQL ----------------------------------------

SKIP: {
	skip('built without PostgreSQL (Debian: libpq-dev)', 6)
	    if slurp(Edgehaul::top_builddir() . '/config.h') !~ /^#define HAVE_PQ 1/m;
	need(6, 'postgresql', 'minisign');
	my $pg = eval { Edgehaul->postgresql } or skip("postgresql: $@", 6);
	my @two = map { Edgehaul->signer(conf => 'database = ' . $pg->uri) } 0, 1;
	$two[0]->start;
	my $pub = $two[0]->token('publisher');
	spit("$two[1]{dir}/state/seal.key", slurp("$two[0]{dir}/state/seal.key"));
	chmod 0600, "$two[1]{dir}/state/seal.key";
	$two[1]->start;
	$two[0]->storage('default', type => 'FILE');
	my @w = map { Edgehaul::Workstation->new(url => $_->url, token => $pub, key => $p->{key}) } @two;
	is(($w[0]->run('product', '--product', 'cam-x'))[0], 0, 'a product in PostgreSQL');
	($rc, undef, $err) = $w[0]->run('publish', '--product', 'cam-x', '--version', '1.0.0', "$p->{dir}/fw.bin");
	is($rc, 0, 'published by the first signer') or diag($err);
	($rc, undef, $err) = $w[1]->run('publish', '--product', 'cam-x', '--version', '0.9.0', "$p->{dir}/fw.bin");
	is($rc, 65, 'the second knows that there is a higher one');
	my $gw = $two[0]->token('gateway', '--gateway', 'gw-1');
	my $u = $two[1]->rest('GET', '/v1/updates', token => $gw)->{json};
	is($u->{firmware}[0]{seq}, 1, 'its gateways are told');
	my @pids = map { $w[$_ % 2]->start('promote', '--product', 'cam-x', '--version', '1.0.0',
		'--percent', 10 + $_) } 0 .. 3;
	my @ends = map { waitpid $_, 0; $? >> 8 } @pids;
	is_deeply(\@ends, [0, 0, 0, 0], 'four edits at once, at two signers') or diag(
	    map { slurp($_) } map { glob "$_->{dir}/err.*" } @w);
	is($two[0]->rest('GET', '/v1/firmware/cam-x/stable/manifest', token => $pub)->{json}{seq}, 5,
	    'and none is lost');
}
finish;
