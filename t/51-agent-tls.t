#!/usr/bin/perl
# The agent checks whom it talks to: signer and store over TLS, the store's
# certificate from the signer, several addresses of the signer
use strict;
use warnings;
use Edgehaul;
use Test::More;

Edgehaul->need_all('openssl');
my $dir = Edgehaul->dir('tls');
my $signer = Edgehaul->signer;
my ($port) = $signer->url =~ /:(\d+)$/;

sub openssl {
	my ($rc, undef, $err) = Edgehaul::Daemon->run('openssl', @_);
	die "openssl @_: $err\n" if $rc != 0;
}
# An authority, and a server's certificate by it for some names.
sub authority {
	my ($ca) = @_;
	openssl('req', '-x509', '-newkey', 'ec', '-pkeyopt',
		'ec_paramgen_curve:P-256', '-nodes', '-days', 2, '-subj',
		"/CN=$ca", '-keyout', "$dir/$ca.key", '-out', "$dir/$ca.pem");
}
sub server {
	my ($name, $ca, $san) = @_;
	openssl('req', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256',
		'-nodes', '-subj', "/CN=$name", '-keyout', "$dir/$name.key",
		'-out', "$dir/$name.csr");
	spit("$dir/$name.ext", "subjectAltName=$san\n");
	openssl('x509', '-req', '-in', "$dir/$name.csr", '-CA', "$dir/$ca.pem",
		'-CAkey', "$dir/$ca.key", '-CAcreateserial', '-days', 2,
		'-extfile', "$dir/$name.ext", '-out', "$dir/$name.pem");
	return ($name);
}
authority($_) for qw(good foreign);
server('right', 'good', 'IP:127.0.0.1,DNS:localhost');
server('stranger', 'foreign', 'IP:127.0.0.1,DNS:localhost');
server('misnamed', 'good', 'DNS:signer.example');

# The signer with a certificate, its FILE storage behind it.
sub serve {
	my ($cert) = @_;
	$signer->stop if $signer->running;
	spit("$signer->{dir}/signer.conf", join "\n", '[file_storage]',
		"dir = $signer->{objects}", '[signer]',
		"address = 127.0.0.1:$port",
		"public_url = https://127.0.0.1:$port",
		"state_dir = $signer->{dir}/state", 'allow_private = yes',
		"cert_file = $dir/$cert.pem", "key_file = $dir/$cert.key", '');
	$signer->start;
}
$signer->admin;
my $token = $signer->token('gateway', '--gateway', 'gw-1');
$signer->start;
$signer->storage('default', type => 'FILE');
serve('right');

my $gw = Edgehaul->gateway(signer => "https://127.0.0.1:$port",
	token => $token, conf => { signer => { ca_file => "$dir/good.pem" },
	upload => { allow_http => undef, allow_private => undef } });
$gw->proxy->start;
my $agent = $gw->agent;
$agent->start;
my $sent = 0;
sub put {
	my $r = $gw->put("/upload/cam-1/" . ++$sent . '.jpg', jpeg());
	is($r->{status}, 201, 'an upload');
	return $r->{json}{id};
}
sub error_of {
	my ($id) = @_;
	my ($r) = grep { $_->{id} eq $id } $gw->queue_ls;
	return $r ? $r->{last_error} // '' : '';
}
put();
ok($gw->drained(20, 1), 'signer and its storage over TLS, by ca_file');

# ---- whom it must not talk to ------------------------------------------------
for my $t (['stranger', 'of a foreign authority'],
    ['misnamed', 'with another name']) {
	my ($cert, $what) = @$t;
	serve($cert);
	put();
	ok(wait_for(sub {
		$agent->log =~ /cannot ask \S+: SSL.*(certificate|subject)/ }),
		"a signer $what is refused");
	is($gw->ledger->{waiting}, 1, 'the file waits');
	serve('right');
	ok($gw->drained(60, $sent), 'and goes when it is the right one');
	$agent->stop;
	spit($agent->{log_file}, '');
	$agent->start;
}

# ---- a store with a certificate that the signer tells ------------------------
# The cloud signs; the store is the FILE storage over TLS of the signer above.
my $cloud = Edgehaul->cloud;
$agent->stop;
$gw->configure(signer => { url => $cloud->url, ca_file => undef },
	upload => { allow_private => 'yes' });
spit($gw->{token_file}, $cloud->token . "\n");
$cloud->rules(sign => { status => 503 });
$agent->start;
my $id = put();
my $key = 'elsewhere.jpg';
sub recipe {
	my ($rc, $out) = Edgehaul::Daemon->run('curl', '-sS', '--cacert',
		"$dir/good.pem", '-H', "Authorization: Bearer $token", '-H',
		'Content-Type: application/json', '--data', json_encode({
		uploads => [{ id => 'x', key => $key, size => length jpeg(),
		sha256 => sha256_hex(jpeg()) }] }),
		"https://127.0.0.1:$port/v1/sign");
	die "no recipe: $out\n" if $rc != 0;
	return json_decode($out)->{results}[0]{recipe};
}
SKIP: {
	need(5, 'curl');
	my $r = recipe();
	my %rules = (request => $r->{requests}[0], verify => $r->{verify},
		certificate => slurp("$dir/foreign.pem"));
	$cloud->rules(%rules);
	ok(wait_for(sub { error_of($id) =~ /PUT 127.0.0.1: SSL/ }, 40),
		"without the store's authority: refused");
	$cloud->rules(%rules, recipe => { certificateId => 'ca-1' });
	ok(wait_for(sub { grep { $_->{path} eq '/v1/certificates/ca-1' }
		$cloud->requests('GET') }, 40), 'the certificate is asked for');
	sleep 1;
	is($gw->ledger->{waiting}, 1, 'with the wrong authority: refused');
	$cloud->rules(%rules, certificate => slurp("$dir/good.pem"),
		recipe => { certificateId => 'ca-2' });
	ok($gw->drained(60), "with the store's authority it goes out");
	my ($file) = glob "$signer->{objects}/*/*/*/$key";
	is(slurp($file // '/dev/null'), jpeg(), 'byte for byte');
}

# ---- several addresses -------------------------------------------------------
my $dead = Edgehaul::free_port();
my $second = Edgehaul->cloud;
$cloud->rules;
$gw->configure(signer => { url => "http://127.0.0.1:$dead " . $cloud->url
	. ' ' . $second->url });
$agent->reload;
put();
ok($gw->drained(30), 'the first address is dead: the second is asked');
ok(scalar(grep { 1 } $cloud->requests('POST')), 'it was');
$cloud->stop;
put();
ok($gw->drained(30), 'the second dies: the third is asked');
ok(scalar(grep { 1 } $second->requests('POST')), 'it was');
is($gw->unbalanced, '', 'the ledger balances');
finish;
