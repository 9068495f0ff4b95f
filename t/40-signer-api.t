#!/usr/bin/perl
# The signer's API: storages, signing, tokens, blocking, long polls, and the
# FILE storage behind its URIs.
use strict;
use warnings;
use Test::More;
use Edgehaul;
use Time::HiRes 'time';

my $s = Edgehaul->signer(conf => join "\n", 'rate_limit = 30',
    'metrics_address = 127.0.0.1:0',
    $ENV{TEST_DATABASE} ? "database = $ENV{TEST_DATABASE}" : ());
my $admin = $s->admin;
my $gw = $s->token('gateway', '--gateway', 'gw-1');
$s->start;
my $url = $s->url;

sub call {
	my ($method, $path, %o) = @_;
	$o{token} //= $admin;
	return Edgehaul::http($method, $url . $path, %o);
}
sub sign {
	my (@uploads) = @_;
	return call('POST', '/v1/sign', token => $gw,
	    json => { uploads => \@uploads });
}
sub problem {
	my ($r, $status, $pointer, $name) = @_;
	is($r->{status}, $status, "$name: $status");
	is($r->{headers}{'content-type'}, 'application/problem+json',
	    "$name: a problem");
	return if !defined $pointer;
	my ($e) = grep { $_->{pointer} eq $pointer } @{ $r->{json}{errors} };
	ok($e, "$name: points to $pointer");
	return $e;
}

# ---- tokens and roles -----------------------------------------------------

problem(Edgehaul::http('GET', "$url/v1/storages"), 401, undef, 'no token');
problem(call('GET', '/v1/storages', token => 'eh.acme.00.x'), 401, undef,
    'a made-up token');
problem(call('GET', '/v1/storages', token => $admin . 'x'), 401, undef,
    'a changed token');
problem(call('GET', '/v1/storages', token => $gw), 403, undef,
    'a gateway at storages');
problem(call('POST', '/v1/sign', json => { uploads => [] }), 403, undef,
    'an admin at signing');
problem(call('GET', '/v1/nothing'), 404, undef, 'an unknown path');
my $r = call('PATCH', '/v1/storages', content => '{}');
is($r->{status}, 405, 'an unknown method');
is($r->{headers}{allow}, 'GET, POST', 'Allow tells those there are');
problem(call('OPTIONS', '/v1/storages'), 405, undef, 'a method of no call');
problem(call('GET', '/v1/storages/%zz'), 400, undef, 'half a percent-encoding');
problem(call('PUT', '/v1/storages/x', content => ' ' x 200_000), 413, undef,
    'a body that is too large');
problem(Edgehaul::request_bytes($url =~ m{//(.*)}, "GET /v1/storages HTTP/1.1\r\n"
	    . "Host: a\r\nHost: b\r\n\r\n", count => 1)->{answers}[0], 400, undef,
    'what is no HTTP');
unlike(join('', map { slurp($_) } glob "$s->{dir}/state/database/*"),
    qr/\Q$admin\E/, 'no token stands in the database');

# ---- storages -------------------------------------------------------------

$r = call('POST', '/v1/storages', json => { type => 'FILE' });
is($r->{status}, 201, 'POST makes a storage');
is($r->{json}{name}, 'default', 'called default');
is($r->{json}{expirationDuration}, 'PT15M', 'with the default duration');

my %s3 = (type => 'S3', bucket => 'uploads', region => 'eu-central-1',
    accessKeyId => 'AKIAIOSFODNN7EXAMPLE', secretAccessKey => 'verySecret1');
$r = call('PUT', '/v1/storages/s3', json => \%s3);
is($r->{status}, 201, 'PUT makes a storage');
my $etag = $r->{headers}{etag};
ok($etag, 'it has an ETag');
is($r->{json}{secretAccessKey}{set}, JSON::PP::true(), 'the secret is set');
like($r->{json}{secretAccessKey}{fingerprint}, qr/^[0-9a-f]{16}$/,
    'and has a fingerprint');
unlike($r->{content}, qr/verySecret1/, 'and is not shown');
is_deeply($r->{json}{hosts}, ['uploads.s3.eu-central-1.amazonaws.com'],
    'hosts are told');
unlike(join('', map { slurp($_) } glob "$s->{dir}/state/database/*"),
    qr/verySecret1/, 'no secret stands in the database');

$r = call('PUT', '/v1/storages/s3', json => \%s3,
    headers => { 'if-none-match' => '*' });
is($r->{status}, 412, 'If-None-Match: * keeps what is there');
$r = call('PUT', '/v1/storages/s3', json => { %s3, region => 'eu-west-1' },
    headers => { 'if-match' => $etag });
is($r->{status}, 200, 'If-Match with the right ETag replaces');
isnt($r->{headers}{etag}, $etag, 'the ETag changes');
$r = call('PUT', '/v1/storages/s3', json => \%s3,
    headers => { 'if-match' => $etag });
is($r->{status}, 412, 'If-Match with an old ETag does not');
$etag = call('GET', '/v1/storages/s3')->{headers}{etag};
is(call('PUT', '/v1/storages/s3', json => \%s3, headers => {
	'if-match' => "W/$etag" })->{status}, 412, 'nor does a weak one');
problem(call('PUT', '/v1/storages/s3', json => \%s3, headers => { %$_ }), 400,
    undef, join ' ', 'a condition that cannot be read:', %$_)
    for { 'if-match' => $etag =~ tr/"//dr }, { 'if-none-match' => 'junk' };
is(call('GET', '/v1/storages/s3')->{headers}{etag}, $etag, 'nothing was changed');

$r = call('HEAD', '/v1/storages/s3');
is(join(' ', $r->{status}, $r->{headers}{etag}, $r->{content} // ''), "200 $etag ",
    'HEAD tells the ETag alone');
# What GET shows can be sent back.
my $shown = call('GET', '/v1/storages/s3')->{json};
$r = call('PUT', '/v1/storages/s3', json => { %$shown, region => 'sa-east-1' });
is($r->{status}, 200, 'what GET shows can be PUT');
is($r->{json}{secretAccessKey}{fingerprint},
    $shown->{secretAccessKey}{fingerprint}, 'the secret stays');

# All that is wrong, at once.
$r = call('PUT', '/v1/storages/bad', json => { type => 'S3', buckt => 'x',
	endpoint => 'ftp://x', expirationDuration => 'P8D',
	headers => { Host => 'x' }, certificate => 'no pem' });
my $e = problem($r, 422, '/buckt', 'a slip of the pen');
is($e->{hint}, 'Did you mean bucket?', 'it tells what was meant');
problem($r, 422, $_, 'and the others') for qw(/bucket /accessKeyId /endpoint
    /expirationDuration /headers/Host /certificate);
problem(call('PUT', '/v1/storages/x', json => { type => 'FTP' }), 422,
    '/type', 'an unknown type');
problem(call('PUT', '/v1/storages/Xx', json => { type => 'FILE' }), 422,
    '/name', 'a name that cannot be');
problem(call('PUT', '/v1/storages/x', content => '{"type":', headers =>
	{ 'content-type' => 'application/json' }), 400, undef, 'half a JSON');
is(call('GET', '/v1/storages/bad')->{status}, 404, 'nothing was made of it');
is_deeply([map { $_->{name} } @{ call('GET', '/v1/storages')->{json}{items} }],
    ['default', 's3'], 'the list');
is_deeply([map { $_->{status} } @{ call('GET', '/v1/storages')->{json}{items} }],
    [map { call('GET', "/v1/storages/$_")->{json}{status} } 'default', 's3'],
    'with the status of each');

# A storage service of Azure as its portal hands it out.
my $key = 'ZWRnZS11cGxvYWQtc2lnbmVyLWZha2UtYWNjb3VudC1rZXktMSE=';
my $connection = 'DefaultEndpointsProtocol=https;AccountName=edgestore01;'
    . "AccountKey=$key;EndpointSuffix=core.windows.invalid";
my %azure = (type => 'AZURE', connectionString => $connection,
    endpoint => 'https://edgestore01.blob.core.windows.invalid',
    headers => { 'x-ms-blob-type' => 'BlockBlob' }, certificate => '',
    expirationDuration => 'PT2M');
for my $case (['with its endpoint', %azure], ['without', %azure, endpoint => '']) {
	my ($name, %doc) = @$case;
	$r = call('PUT', '/v1/storages/azure', json => \%doc);
	ok($r->{success}, "AZURE $name") or diag $r->{content};
	is($r->{json}{container}, 'edgehaul', 'the default container');
	is_deeply($r->{json}{hosts}, ['edgestore01.blob.core.windows.invalid'],
	    'its host');
}
$r = call('POST', '/v1/storages', json => { %azure, name => 'azure' });
is($r->{status}, 200, 'AZURE by POST') or diag $r->{content};
is($r->{json}{name}, 'azure', 'under its name');
problem(call('PUT', '/v1/storages/azure2', json => { %azure,
	connectionString => "AccountName=x;AccountKey=$key;BlobEndpoint=http://x/",
	endpoint => '' }), 422, '/connectionString', 'http without allowHttp');
$r = call('PUT', '/v1/storages/azure2', json => { %azure,
	connectionString =>
	    "AccountName=x;AccountKey=$key;BlobEndpoint=http://edge/" });
ok($r->{success}, 'https if either says so');
is(scalar @{ $r->{json}{warnings} }, 2, 'a warning for each difference');

# ---- signing --------------------------------------------------------------

my $body = 'x' x 100_000;
my %up = (id => 'a' x 32, key => 'cam-1/a b.txt', device => 'cam-1',
    size => length $body, sha256 => sha256_hex($body),
    contentType => 'text/plain');
$r = sign(\%up, { %up, id => 'b', storage => 's3' },
    { %up, id => 'c', storage => 'azure' }, { %up, id => 'd', storage => 'no' },
    { %up, id => 'e', key => '../x' }, { %up, id => 'f', key => 'a/../../x' },
    { %up, id => 'g', key => "a\nb" }, { %up, id => 'h', key => '' },
    { %up, id => 'i', sha256 => 'zz' }, { %up, id => 'j', method => 'GET' },
    { %up, id => 'k', contentType => "a\r\nb: c" }, { %up, id => 'l',
	method => 'DELETE' }, 'rubbish');
is($r->{status}, 200, 'signing');
my @res = @{ $r->{json}{results} };
is(scalar @res, 13, 'a result for each');
is_deeply([map { $_->{recipe} ? 1 : 0 } @res], [1, 1, 1, (0) x 10],
    'one bad entry spoils no other');
is_deeply([map { $_->{error}{do} } @res[3 .. 12]],
    ['wait', ('quarantine') x 9], 'what to do with each');
my $file = $res[0]{recipe};
is($file->{expiresIn}, 900, 'seconds');
is($file->{uri}, $file->{requests}[0]{uri}, 'the first request at the top');
is($file->{method}, 'PUT', 'its method');
like($res[1]{recipe}{uri},
    qr{^https://uploads\.s3\.sa-east-1\.amazonaws\.com/gw-1/cam-1/a%20b\.txt\?},
    'the gateway\'s prefix stands before the key');
is($res[1]{recipe}{headers}{'if-none-match'}, '*', 'nothing is overwritten');
is_deeply($res[1]{recipe}{verify}, { size => JSON::PP::false, header => 'ETag',
	digest => 'md5-hex', $up{sha256} ? (or => { header =>
	'x-amz-checksum-sha256', digest => 'sha256-base64' }) : () },
    'S3 may tell its SHA-256, or an ETag that is the MD5');
is($res[2]{recipe}{headers}{'x-ms-blob-type'}, 'BlockBlob', 'Azure\'s header');
is($res[2]{recipe}{expiresIn}, 120, 'PT2M');
is_deeply([sort keys %{ $r->{json}{answers} }], [qw(azure default s3)],
    'what answers mean, by storage');
for my $bad ('"key":"a\u0000b"', "\"key\":\"\xff\xfe\"", '"key":"k","contentType":"a\u0000b"',
    "\"key\":\"k\",\"contentType\":\"\xe9\"") {
	is(call('POST', '/v1/sign', token => $gw, content =>
		"{\"uploads\":[{\"id\":\"z\",$bad}]}")->{status}, 400,
	    'NUL, or not UTF-8: no JSON that can be meant');
}
my @wrong = ([id => ''], [key => 'a/../b'], [size => -1], [sha256 => 'x'],
    [step => 'no'], [device => 'a/b'], [storage => 'no'], [method => 'DELETE'],
    [contentType => "a\nb"], [metadata => { X => 1 }]);
$r = sign(map { { %up, @$_ } } @wrong)->{json}{results};
is_deeply([map { $_->{error}{errors}[0]{pointer} } @$r],
    [map { "/uploads/$_/$wrong[$_][0]" } 0 .. $#wrong],
    'each refusal points to its field');
my $long = 'd' x 255; # the longest that a path of an upload can name
ok(sign({ %up, device => $long })->{json}{results}[0]{recipe}, 'a long device');
is(call('PUT', "/v1/gateways/gw-1/devices/$long", json => { blocked => JSON::PP::true() })
	->{status}, 201, 'which can be blocked');
is(sign({ %up, device => $long })->{json}{results}[0]{error}{do}, 'hold', 'and is');
call('DELETE', "/v1/gateways/gw-1/devices/$long");
ok(sign({ %up, size => undef })->{json}{results}[0]{recipe}, 'null is absent');
problem(sign(map { { %up, id => $_ } } 1 .. 257), 422, '/uploads', '257 uploads');
is(scalar @{ sign(map { { %up, id => $_ } } 1 .. 256)->{json}{results} }, 256,
    '256 at once');

# ---- the FILE storage -----------------------------------------------------

sub put {
	my ($uri, $content, %h) = @_;
	return Edgehaul::http('PUT', $uri, content => $content,
	    headers => { 'content-type' => 'text/plain', %h });
}
my $uri = $file->{uri};
is(put($uri, $body)->{status}, 201, 'PUT');
is(put($uri, $body)->{status}, 200, 'the same again');
my $path = "$s->{objects}/acme/default/gw-1/cam-1/a b.txt";
is(slurp($path), $body, 'it lies where find shows it');
my ($other) = sign({ %up, sha256 => sha256_hex('y' x 100_000) })->{json}{results}[0];
is(put($other->{recipe}{uri}, 'y' x 100_000)->{status}, 409,
    'never written over');
is(slurp($path), $body, 'it is as it was');
($other) = sign({ %up, key => 'n' })->{json}{results}[0]{recipe}{uri};
is(put($other, 'z' x 100_000)->{status}, 422, 'another body of that size');
is(put($other, 'short')->{status}, 403, 'another size');
is(put($other, $body, 'content-type' => 'text/html')->{status}, 403,
    'another type');
is(put($other, $body, 'content-encoding' => 'gzip')->{status}, 403,
    'another encoding');
ok(!-e "$s->{objects}/acme/default/gw-1/n", 'nothing of these is there');
(my $bad = $other) =~ s/.$/0/;
$bad =~ s/.$/1/ if $bad eq $other;
is(put($bad, $body)->{status}, 403, 'a wrong signature');
for (['key', sub { s{/gw-1/}{/gw-2/} }], ['tenant', sub { s{/acme/}{/other/} }],
    ['expiry', sub { s/Expires=(\d+)/'Expires=' . ($1 + 1)/e }],
    ['size', sub { s/Size=\d+/Size=5/ }], ['no signature', sub { s/&X-Edge-Sig.*// }],
    ['more', sub { $_ .= '&X-Edge-Size=1' }]) {
	my ($name, $change) = @$_;
	local $_ = $other;
	$change->();
	is(put($_, $body)->{status}, 403, "refused: $name");
}
is(Edgehaul::http('GET', $other)->{status}, 403, 'refused: another method');
is(Edgehaul::http('DELETE', $uri)->{status}, 403, 'refused: DELETE');
my $head = sign({ %up, method => 'HEAD' })->{json}{results}[0]{recipe};
$r = Edgehaul::http('HEAD', $head->{uri});
is($r->{status}, 200, 'HEAD');
is($r->{headers}{'content-length'}, length $body, 'tells the size');
is($r->{headers}{etag}, '"' . sha256_hex($body) . '"', 'and the SHA-256');
is($r->{headers}{'content-type'}, 'text/plain', 'and the type');
is(Edgehaul::http('HEAD', sign({ %up, method => 'HEAD', key => 'none' })
	->{json}{results}[0]{recipe}{uri})->{status}, 404, 'HEAD of nothing');
call('PUT', '/v1/storages/short', json => { type => 'FILE',
	expirationDuration => 'PT1S' });
my $expired = sign({ %up, storage => 'short' })->{json}{results}[0]{recipe}{uri};
ok(wait_for(sub { put($expired, $body)->{status} == 403 }, 5), 'an old URI');

# A chunked body without its length announced; a large one; an empty one.
my $big = join '', map { chr rand 256 } 1 .. 65536;
$big x= 200;
my $n = 0;
my $big_uri = sign({ id => 'x', key => 'big', size => length $big,
	sha256 => sha256_hex($big) })->{json}{results}[0]{recipe}{uri};
is(Edgehaul::http('PUT', $big_uri, content =>
	sub { $n < length $big ? substr($big, ($n += 65536) - 65536, 65536) : '' }
    )->{status}, 201, '13 MB in chunks');
is(sha256_hex(slurp("$s->{objects}/acme/default/gw-1/big")), sha256_hex($big),
    'byte for byte');
is(Edgehaul::http('PUT', sign({ id => 'x', key => 'empty', size => 0,
	    sha256 => sha256_hex('') })->{json}{results}[0]{recipe}{uri},
	content => '')->{status}, 201, 'an empty object');
is(-s "$s->{objects}/acme/default/gw-1/empty", 0, 'is there');
is_deeply([glob "$s->{objects}/.tmp/*"], [], 'nothing is left over');

# ---- other tenants --------------------------------------------------------

{
	local $s->{tenant} = 'other';
	my $foreign = $s->token('admin');
	is_deeply(call('GET', '/v1/storages', token => $foreign)->{json}{items},
	    [], 'another tenant sees nothing');
	is(call('GET', '/v1/storages/s3', token => $foreign)->{status}, 404,
	    'nor finds it by name');
	is(call('DELETE', '/v1/storages/s3', token => $foreign)->{status}, 404,
	    'nor deletes it');
	my $theirs = $s->token('gateway', '--gateway', 'gw-1');
	$r = call('POST', '/v1/sign', token => $theirs,
	    json => { uploads => [\%up] });
	is($r->{json}{results}[0]{error}{status}, 404, 'nor signs for it');
	problem(call('POST', '/v1/tokens', token => $foreign, json =>
		{ role => 'admin', tenant => 'acme' }), 403, undef,
	    'an admin making tokens of another tenant');
	problem(call('POST', '/v1/tokens', token => $foreign,
		json => { role => 'root' }), 403, undef, 'or of root');
	is(call('GET', '/v1/tenants/other', token => $foreign)->{json}{name},
	    'other', 'an admin sees the own tenant');
	problem(call('GET', '/v1/tenants/acme', token => $foreign), 403, undef,
	    'and no other');
	problem(call('DELETE', '/v1/tenants/other', token => $foreign), 403,
	    undef, 'nor deletes any');
	my $root = $s->token('root');
	problem(call('DELETE', '/v1/tenants/other', token => $root), 409, undef,
	    'root deleting the tenant that its own token stands in');
	is(call('DELETE', '/v1/tenants/other', token => $root)->{status}, 409,
	    'which is still known');
}

# Gateways have no ETag, but "*" is kept, and no condition passed over.
is(call('PUT', '/v1/gateways/gw-7', json => {}, headers => { 'if-none-match' => '*' })
	->{status}, 201, 'a gateway that is not there yet');
for my $h (['if-none-match', '*'], ['if-match', '"1"']) {
	is(call('PUT', '/v1/gateways/gw-7', json => { note => 'n' },
		headers => { @$h })->{status}, 412, "it is: @$h");
	is(call('DELETE', '/v1/gateways/gw-7', headers => { @$h })->{status}, 412,
	    "nor deleted: @$h");
}
is(call('GET', '/v1/gateways/gw-7')->{json}{note}, undef, 'it is as it was');
is(call('DELETE', '/v1/gateways/gw-7', headers => { 'if-match' => '*' })->{status},
    204, 'and goes by any');

# ---- tokens by REST -------------------------------------------------------

$r = call('POST', '/v1/tokens', json => { role => 'gateway', gateway => 'gw-9' });
is($r->{status}, 201, 'a token by REST');
my @tokens = ($r->{json}{token});
is(call('GET', '/v1/updates', token => $tokens[0])->{status}, 200, 'it works');
push @tokens, call('POST', '/v1/tokens', json => { role => 'gateway',
	gateway => 'gw-9' })->{json}{token};
is_deeply([map { call('GET', '/v1/updates', token => $_)->{status} } @tokens],
    [200, 200], 'two at a time');
$r = call('DELETE', "/v1/tokens/$r->{json}{id}");
is($r->{status}, 204, 'ended');
is(call('GET', '/v1/updates', token => $tokens[0])->{status}, 401, 'at once');
unlike(call('GET', '/v1/tokens')->{content}, qr/"hash"/, 'no hash is shown');
# What is not understood must not make a token that never ends.
problem(call('POST', '/v1/tokens', json => { role => 'publisher', @$_ }), 422,
    "/$_->[0]", "a token with $_->[0]") for ['expiresIn', 3600],
    ['expires', '2030-01-01T00:00:00Z'], ['expiresIn', 'PT1S'],
    ['tenant', ['acme']], ['gateway', 7];
is(call('POST', '/v1/tokens', json => { role => 'publisher', gateway => '',
	tenant => undef, expiresIn => 'P1D' })->{status}, 201,
    'what is empty is not there');
problem(call('POST', '/v1/tokens', json => { role => 'boss' }), 422, '/role',
    'an unknown role');

# ---- blocking, and the long poll ------------------------------------------

my $now = call('GET', '/v1/updates', token => $gw)->{json};
is_deeply([sort map { $_->{name} } @{ $now->{storages} }],
    [qw(azure azure2 default s3 short)], 'updates has the storages');
is_deeply((grep { $_->{name} eq 's3' } @{ $now->{storages} })[0]{hosts},
    [map { "uploads.s3.$_.amazonaws.com" } qw(sa-east-1 eu-central-1 eu-west-1)],
    'with their hosts, and those of before');

# Ask after the version in a child; what it prints after which time.
sub poll {
	my ($version) = @_;
	return child(sub { call('GET', "/v1/updates?after=$version",
		token => $gw)->{content} });
}
is(call('GET', '/v1/gateways/nobody/devices')->{status}, 404,
    'no devices of a gateway that is not there');
my $fh = poll($now->{version});
ok($s->wait_polls(1), 'a poll waits');
my $began = time;
is(call('PUT', '/v1/gateways/gw-1/devices/cam-1',
	json => { blocked => JSON::PP::true() })->{status}, 201, 'block a device');
my $polled = json_decode(<$fh>);
cmp_ok(time - $began, '<', 1 * Edgehaul::slowness(), 'told within a second');
is_deeply($polled->{devices}, [{ device => 'cam-1', blocked => JSON::PP::true() }],
    'which device');
cmp_ok($polled->{version}, '>', $now->{version}, 'a new version');
$r = sign({ %up, id => 'm' }, { %up, id => 'n', device => 'cam-2' });
is($r->{json}{results}[0]{error}{do}, 'hold', 'nothing is signed for it');
ok($r->{json}{results}[1]{recipe}, 'but for others');
is(call('PUT', '/v1/gateways/gw-1/devices/cam-1',
	json => { blocked => JSON::PP::false() })->{status}, 200, 'unblock');
ok(sign(\%up)->{json}{results}[0]{recipe}, 'signed again');
is(call('PUT', '/v1/gateways/gw-1', json => { blocked => JSON::PP::true() })
    ->{status}, 200, 'block the gateway');
problem(sign(\%up), 403, undef, 'a blocked gateway');
is(call('GET', '/v1/updates', token => $gw)->{json}{blocked},
    JSON::PP::true(), 'it is told so');
is(call('PUT', '/v1/gateways/gw-1', json => { prefix => 'site-7',
	policy => { storages => ['default'], maxSize => 100_000 } })->{status}, 200,
    'prefix and policy');
$r = sign(\%up, { %up, id => 'o', size => 100_001 }, { %up, id => 'p',
	storage => 's3' });
like($r->{json}{results}[0]{recipe}{uri}, qr{/acme/default/site-7/cam-1/},
    'the prefix is used');
is($r->{json}{results}[1]{error}{status}, 413, 'larger than the policy has it');
is($r->{json}{results}[2]{error}{status}, 403, 'a storage it may not use');
problem(call('PUT', '/v1/gateways/gw-1', json => { prefix => '../x' }), 422,
    '/prefix', 'a prefix that leads elsewhere');

# ---- reports, audit -------------------------------------------------------

my $report = { reports => [{ id => 'r1', outcome => 'delivered', size => 5 }],
	status => { waiting => 3 } };
is_deeply(call('POST', '/v1/reports', token => $gw, json => $report)->{json},
    { accepted => 1, repeated => 0 }, 'a report');
is_deeply(call('POST', '/v1/reports', token => $gw, json => $report)->{json},
    { accepted => 0, repeated => 1 }, 'told again');
is(call('PUT', '/v1/gateways/gw-1', json => { policy => { bytesPerDay => 5 } })
    ->{status}, 200, 'a limit of bytes per day');
$r = sign(\%up)->{json}{results}[0]{error};
is($r->{status}, 429, 'which is used up');
ok($r->{retryAfter} <= 86400, 'for today');
ok(sign({ %up, method => 'HEAD' })->{json}{results}[0]{recipe}, 'not for looking');
call('PUT', '/v1/gateways/gw-1', json => {});
my ($seen) = grep { $_->{id} eq 'gw-1' }
    @{ call('GET', '/v1/gateways')->{json}{items} };
ok($seen->{lastContact}, 'its last contact is seen');
is($seen->{status}{waiting}, 3, 'and its status');
problem(call('POST', '/v1/reports', token => $gw, json => { reports =>
	[{ id => 'x', outcome => 'lost' }] }), 422, '/reports/0', 'an unknown outcome');
my @audit;
my $after = '';
do {
	$r = call('GET', "/v1/audit?limit=5&after=$after")->{json};
	push @audit, @{ $r->{items} };
	$after = $r->{next};
} while (defined $after);
problem(call('GET', "/v1/audit?$_"), 422, '', "the audit log, $_")
    for 'limit=x', 'limit=0', 'limit=1001', 'after=next';
problem(call('GET', '/v1/gateways?limit=-1'), 422, '', 'a page of gateways');
ok((grep { $_->{action} eq 'storage.replace' && ($_->{before}{region} // '')
	eq 'eu-central-1' && ($_->{after}{region} // '') eq 'eu-west-1' } @audit),
    'the audit log has before and after');
is_deeply([map { "$_->{by}{role} $_->{after}{role}" } grep {
	$_->{action} eq 'token.create' && !$_->{by}{token} } @audit],
    ['operator admin', 'operator gateway'],
    'and the tokens that were made on the command line');
my @told = grep { $_->{action} eq 'uploads.report' } @audit;
is(scalar @told, 1, 'and what was reported, once');
is($told[0]{object}, 'gw-1', 'of which gateway');
is_deeply($told[0]{after}, { delivered => 1, bytes => 5, uploads =>
	[{ id => 'r1', outcome => 'delivered', size => 5 }] }, 'and uploads');
unlike(json_encode(\@audit), qr/verySecret1|\Q$key\E/, 'but no secret');

# ---- metrics, health, limits ----------------------------------------------

my ($metrics) = $s->log =~ /name=metrics address=(\S+)/;
like(Edgehaul::http('GET', "http://$metrics/health")->{content}, qr/"ok":true/,
    'health');
like(Edgehaul::http('GET', "http://$metrics/ready")->{content},
    qr/"ready":true/, 'ready');
$r = Edgehaul::http('GET', "http://$metrics/metrics");
like($r->{content}, qr/^edgehaul_signer_signings_total\{result="recipe"\} [1-9]/m,
    'signings are counted');
my (%help, %type, @odd);
for (split /\n/, $r->{content}) {
	if (/^# HELP (\w+) \S/) { $help{$1} = 1 }
	elsif (/^# TYPE (\w+) (counter|gauge)$/) { $type{$1} = $2 }
	elsif (!/^(edgehaul_signer_\w+)(\{\w+="[^"]*"(,\w+="[^"]*")*\})? \d+$/
	    || !$help{$1} || !$type{$1}
	    || ($type{$1} eq 'counter') != ($1 =~ /_total$/)) { push @odd, $_ }
}
is_deeply(\@odd, [], 'each metric has help and type, counters a _total');
is(Edgehaul::http('GET', "$url/metrics", token => $admin)->{status}, 404,
    'not among the tenants\' calls');
ok(wait_for(sub { call('GET', '/v1/updates', token => $gw)->{status} == 200 }),
    'a token within its limit');
$r = [$s->flood($gw, 200)];
ok((grep { $_ == 429 } @$r), 'too many requests of one token');
is($r->[0], 200, 'not the first of them');
is(call('GET', '/v1/storages')->{status}, 200, 'and no other token');

# ---- signing offline: the worked example of Amazon's documentation --------

spit("$s->{dir}/doc.json", json_encode({ type => 'S3', bucket => 'examplebucket',
	endpoint => 'https://s3.amazonaws.com', addressing => 'virtual',
	accessKeyId => 'AKIAIOSFODNN7EXAMPLE',
	secretAccessKey => 'wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY' }));
my @offline = ($s->{program}, 'sign', '--storage', "$s->{dir}/doc.json",
    '--method', 'GET', '--key', 'test.txt', '--at', '20130524T000000Z');
my ($rc, $out) = Edgehaul::Daemon->run(@offline, '--expires', 'P1D');
is($rc, 0, 'sign offline');
$out = json_decode($out);
like($out->{uri}, qr/Signature=aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404/,
    'the signature that is printed there');
is($out->{expiresAt}, '2013-05-25T00:00:00Z', 'until when');
($rc, $out) = Edgehaul::Daemon->run(@offline, '--header', 'X-A: b', '--query', 'c=d');
is(json_decode($out)->{headers}{'X-A'}, 'b', 'headers to be sent');
is((Edgehaul::Daemon->run(@offline, '--expires', 'P8D'))[0], 65, 'too long');
is((Edgehaul::Daemon->run(@offline, '--header', "X: a\nb"))[0], 65, 'no header');
is((Edgehaul::Daemon->run($s->{program}, 'sign'))[0], 64, 'no arguments');
is((Edgehaul::Daemon->run($s->{program}, '--config', "$s->{dir}/signer.conf",
	    'token', 'create', '--tenant', 'acme', '--role', 'admin',
	    '--expires', 'PT0S'))[0], 64, 'a token that never lives is none that never ends');
for my $wrong ([method => 'put'], [at => '20260230T030405Z'], [expires => '5m'],
    [query => 'x'], [header => 'x']) {
	my ($rc, $out, $err) = Edgehaul::Daemon->run(@offline,
	    "--$wrong->[0]", $wrong->[1]);
	is("$rc$out", 64, "--$wrong->[0] $wrong->[1]");
	like($err, qr/^edgehaul-signer: --$wrong->[0] cannot be '$wrong->[1]'/,
	    'which is told');
}
for ([qr/nope\.pem.*cannot be read/, "cert_file = $s->{dir}/nope.pem\nkey_file = /nope"],
    [qr/:2: public_url.*write https/, 'public_url = https://u@s.example/'],
    [qr/:2: public_url.*write https/, 'public_url = https://s.example?x']) {
	my ($like, $line) = @$_;
	spit("$s->{dir}/wrong.conf", "[signer]\n$line\nstate_dir = $s->{dir}/state\n");
	my ($rc, $out, $err) = Edgehaul::Daemon->run($s->{program}, '--config',
	    "$s->{dir}/wrong.conf", '--check');
	is("$rc$out", 78, '--check: ' . $line =~ s/\n.*//r);
	like($err, $like, 'it tells');
}
is((Edgehaul::Daemon->run($s->{program}, '--config', "$s->{dir}/signer.conf",
	    'token', 'create', '--tenant', 'acme', '--role', 'boss'))[0], 64,
    'no such role');

# ---- deletes, restart, shutdown -------------------------------------------

is(call('DELETE', '/v1/storages/s3')->{status}, 204, 'delete');
is(call('DELETE', '/v1/storages/s3')->{status}, 404, 'it is gone');
ok(wait_for(sub { $r = call('GET', '/v1/updates', token => $gw);
	$r->{status} == 200 }), 'the limit lets calls through again');
$fh = poll($r->{json}{version});
ok($s->wait_polls(1), 'a poll waits');
$began = time;
$s->stop;
cmp_ok(time - $began, '<', 5 * Edgehaul::slowness(), 'SIGTERM ends it');
ok(json_decode(<$fh>)->{version}, 'answering what waits');
my $sealed = slurp("$s->{dir}/state/seal.key");
($rc, $out) = Edgehaul::Daemon->run($s->{program}, '--config',
    "$s->{dir}/signer.conf", 'key', 'rotate');
is($rc, 0, 'a new key') or diag($out);
isnt(slurp("$s->{dir}/state/seal.key"), $sealed, 'it is another');
$s->start;
$r = sign({ %up, storage => 'azure' })->{json}{results}[0];
ok($r->{recipe}, 'secrets are sealed with it') or diag(json_encode($r));
$s->stop;
spit("$s->{dir}/state/other", $sealed);
rename "$s->{dir}/state/seal.key", "$s->{dir}/state/kept";
rename "$s->{dir}/state/other", "$s->{dir}/state/seal.key";
chmod 0600, "$s->{dir}/state/seal.key";
$s->start;
like($s->new_log, qr/seal/, 'a wrong key is told at the start');
is(sign({ %up, storage => 'azure' })->{json}{results}[0]{error}{do}, 'wait',
    'its storages have to wait');
$s->stop;
rename "$s->{dir}/state/kept", "$s->{dir}/state/seal.key";
$s->start;
$uri = sign(\%up)->{json}{results}[0]{recipe}{uri};
$s->stop;
$s->start;
is(put($uri, $body)->{status}, 200, 'URIs stay good over a restart');
is((stat "$s->{dir}/state/seal.key")[2] & 0777, 0600, 'the key is for nobody else');
finish;
