#!/usr/bin/perl
# The signer keeps to its document: a validating proxy between us and it
# refuses requests and answers that doc/signer-api.yaml does not have.
use strict;
use warnings;
use Test::More;
use Edgehaul;
use IO::Socket::INET;

my $modules = $ENV{EDGEHAUL_NODE_MODULES}
    // Edgehaul::top_srcdir() . '/t/node_modules';
my $prism = $modules . '/@stoplight/prism-cli/dist/index.js';
if (!-f $prism || !Edgehaul::have('node')) {
	my $why = 'prism not installed (Debian: nodejs npm, then: npm ci in t/)';
	plan(skip_all => $why) if !$ENV{EDGEHAUL_REQUIRED};
	fail($why);
	finish;
	exit 1;
}

my $s = Edgehaul->signer;
my $root = $s->token('root');
my $admin = $s->admin;
my $gw = $s->token('gateway', '--gateway', 'gw-1');
$s->start;
my $port = Edgehaul::free_port();
my $log = Edgehaul->dir('prism') . '/log';
my $pid = fork // die;
if ($pid == 0) {
	open STDOUT, '>', $log;
	open STDERR, '>&', \*STDOUT;
	exec 'setpriv', '--pdeathsig', 'KILL', 'node', $prism, 'proxy', '--errors',
	    '-p', $port, Edgehaul::top_srcdir() . '/doc/signer-api.yaml', $s->url;
}
END { my $status = $?; kill 'KILL', $pid if $pid; $? = $status }
ok(wait_for(sub { IO::Socket::INET->new("127.0.0.1:$port") }, 30), 'prism runs')
    or diag(slurp($log));

sub call {
	my ($status, $method, $path, %o) = @_;
	my $r = Edgehaul::http($method, "http://127.0.0.1:$port$path",
	    token => $admin, %o);
	is($r->{status}, $status, "$method $path: $status")
	    or diag($r->{content});
	return $r->{json};
}

my $key = 'ZWRnZS11cGxvYWQtc2lnbmVyLWZha2UtYWNjb3VudC1rZXktMSE=';
call(201, 'POST', '/v1/storages', json => { type => 'FILE' });
call(201, 'PUT', '/v1/storages/s3', json => { type => 'S3', bucket => 'bkt',
	accessKeyId => 'a', secretAccessKey => 'b', partSize => 5 << 20 });
call(201, 'PUT', '/v1/storages/azure', json => { type => 'AZURE',
	connectionString => "AccountName=acc;AccountKey=$key" });
my $shown = call(200, 'GET', '/v1/storages/s3');
call(200, 'PUT', '/v1/storages/s3', json => $shown);
call(412, 'PUT', '/v1/storages/s3', json => $shown,
    headers => { 'if-match' => '"0"' });
call(200, 'GET', '/v1/storages');
call(404, 'GET', '/v1/storages/none');
call(200, 'POST', '/v1/storages/default/test');
call(200, 'GET', '/v1/storages/default');
call(422, 'PUT', '/v1/storages/bad', json => { type => 'S3' });
my $kept = { uploadId => 'u', map { ("part.$_" => 'e') } 1 .. 3 };
my %up = (id => 'a', key => 'k', size => 12 << 20, sha256 => 'a' x 64);
my $signed = call(200, 'POST', '/v1/sign', token => $gw, json => { uploads => [
	{ %up, size => 5, contentType => 'image/jpeg', device => 'cam' },
	{ %up, size => 5, storage => 's3', metadata => { a => 'b' } },
	{ %up, size => 5, storage => 'azure' }, { %up, method => 'HEAD' },
	{ %up, storage => 's3' },
	{ %up, storage => 's3', step => 'part', part => 3, kept => $kept },
	{ %up, storage => 's3', step => 'finish', kept => $kept },
	{ %up, storage => 's3', step => 'abort', kept => $kept },
	{ %up, storage => 'none' }, { %up, key => '../x' },
	{ %up, method => 'GET' } ] });
is(scalar(grep { $_->{recipe} } @{ $signed->{results} }), 8, 'eight recipes');
call(422, 'POST', '/v1/sign', token => $gw, json => { uploads => [] });
call(403, 'POST', '/v1/sign', json => { uploads => [\%up] });
call(401, 'GET', '/v1/storages', token => 'eh.no');
call(200, 'POST', '/v1/reports', token => $gw, json => { reports => [{ id => 'r',
	outcome => 'delivered', size => 1 }], status => { waiting => 0 } });
call(200, 'GET', '/v1/updates', token => $gw);
call(201, 'PUT', '/v1/gateways/gw-2', json => { prefix => 'x', policy => {
	maxSize => 5 }, note => 'n' });
call(200, 'GET', '/v1/gateways/gw-1');
call(200, 'GET', '/v1/gateways?limit=1');
call(201, 'PUT', '/v1/gateways/gw-1/devices/cam', json => {
	blocked => JSON::PP::true() });
call(200, 'GET', '/v1/gateways/gw-1/devices');
call(200, 'GET', '/v1/gateways/gw-1/devices/cam');
call(204, 'DELETE', '/v1/gateways/gw-1/devices/cam');
call(204, 'DELETE', '/v1/gateways/gw-2');
my $token = call(201, 'POST', '/v1/tokens', json => { role => 'admin',
	expiresIn => 'P1D' });
call(200, 'GET', '/v1/tokens');
call(204, 'DELETE', "/v1/tokens/$token->{id}");
call(201, 'PUT', '/v1/tenants/new', token => $root);
call(200, 'GET', '/v1/tenants', token => $root);
call(200, 'GET', '/v1/tenants/new', token => $root);
call(204, 'DELETE', '/v1/tenants/new', token => $root);
call(200, 'GET', '/v1/audit?limit=5');
call(204, 'DELETE', '/v1/storages/s3');
call(200, 'GET', '/health');
finish;
