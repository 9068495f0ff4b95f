#!/usr/bin/perl
# Credentials that a provider gives for a while: sessions of an AWS role by
# radosgw's STS, user delegation keys of Azure by OAuth and Azurite over TLS.
# Their services are down, slow, or answer rubbish: only what needs them waits.
use strict;
use warnings;
use Test::More;
use Edgehaul;
use POSIX ();
use Time::HiRes qw(time sleep);

Edgehaul->need_all('radosgw', 'azurite', 'openssl', 'curl');

my $slow = Edgehaul::slowness();
my $s = Edgehaul->signer;
my @gw = map { $s->token('gateway', '--gateway', "gw-$_") } 1 .. 30;
$s->start;
$s->storage('file', type => 'FILE');
my @f = map { Edgehaul->follow($s, $_) } @gw;
my $f = $f[0];

# ---- the real services, and a detour to each ------------------------------

local $ENV{RADOSGW_STS} = 1;
my $rgw = Edgehaul->radosgw->bucket('shots');
$rgw->role('edge');
my ($cert, $key) = Edgehaul->certificate;
my $azurite = Edgehaul->azurite(scheme => 'https', args => ['--cert', $cert,
	'--key', $key, '--oauth', 'basic']);
my $tokens = Edgehaul->tokens;

my %by = (
	sts => Edgehaul->detour("127.0.0.1:$rgw->{port}"),
	oauth => Edgehaul->detour($tokens->authority),
	key => Edgehaul->detour("127.0.0.1:$azurite->{port}"),
);
my %role = ($rgw->storage('shots'), roleArn => 'arn:aws:iam:::role/edge',
    stsEndpoint => 'http://' . $by{sts}->authority);
my %azure = (type => 'AZURE', tenantId => '3333-44', clientId => 'app',
    clientSecret => 'it', container => 'by-oauth',
    endpoint => 'https://' . $by{key}->authority . '/camstore',
    authority => 'http://' . $by{oauth}->authority,
    allowHttp => JSON::PP::true(), certificate => slurp($cert));
my %doc = (sts => \%role, oauth => \%azure, key => \%azure);

# What makes a storage another one by its row, so that nothing is fetched yet.
my $minutes = 0;
sub another { return (expirationDuration => 'PT' . ++$minutes . 'M') }

# ---- they work --------------------------------------------------------------

my $r = $s->rest('PUT', '/v1/storages/sts', json => \%role);
is($r->{json}{status}{ok}, JSON::PP::true(), 'a session is got at once')
    or diag($r->{content});
$f->works('sts', %role);
my $recipe = $f->sign($f->upload_of('sts', 'by-role', 'abc'));
like($recipe->{uri}, qr/X-Amz-Security-Token=/, 'signed with a session');
ok($f->follow($recipe, 'abc', {}), 'which the store takes');
$f->refusals('sts', $rgw, 'shots', 'session' => { uri =>
	$recipe->{uri} =~ s/&X-Amz-Security-Token=[^&]*//r });

# The session itself, as it went over the wire, may no more than uploading below
# the prefix of its gateway.
$s->storage('cut', %role, another());
$by{sts}->mode('pass', record => 1);
ok($f[6]->sign($f->upload_of('cut', 'k', 'x')), 'a session for gw-7');
my ($answer) = $by{sts}->record =~ /(<AssumeRoleResponse.*)/s;
my %session = map { my ($tag, $as) = @$_;
	($as => (($answer // '') =~ m{<$tag>([^<]+)<})[0]) }
    ['AccessKeyId', 'access'], ['SecretAccessKey', 'secret'],
    ['SessionToken', 'token'];
my $session = $rgw->as(%session);
is($session->request('PUT', '/shots/gw-7/in', undef, 'x')->{status}, 200,
    'it puts below its prefix');
is($session->request('GET', '/shots/gw-7/in')->{status}, 200, 'and reads there');
is($session->request(@$_)->{status}, 403, "but not $_->[0] $_->[1]")
    for ['PUT', '/shots/gw-8/out', undef, 'x'], ['PUT', '/shots/out', undef, 'x'],
    ['PUT', '/shots/gw-77/out', undef, 'x'], ['GET', '/shots/gw-1/by-role'],
    ['DELETE', '/shots/gw-7/in'], ['GET', '/shots'];
$by{sts}->mode('pass');
$s->storage('long', %role, expirationDuration => 'P1D');
cmp_ok($f->sign($f->upload_of('long', 'l', 'abc'))->{expiresIn}, '<', 3600,
    'no URI is valid for longer than its session');
$r = $s->rest('PUT', '/v1/storages/norole',
    json => { %role, roleArn => 'arn:aws:iam:::role/none' });
is($r->{json}{status}{ok}, JSON::PP::false(), 'a role that is not there');
like($r->{json}{status}{hint}, qr/roleArn/, 'and what to look at');

$f->works('oauth', %azure); # its container is made
$recipe = $f->sign($f->upload_of('oauth', 'k', 'x'));
like($recipe->{uri}, qr/&skoid=1111-22&/, 'a user delegation SAS');
ok($f->follow($recipe, 'x', {}), 'which the store takes');
$f->refusals('oauth', $azurite, 'by-oauth');
ok($recipe->{certificateId}, 'the agent is told which CA');
is(Edgehaul::http('GET', $s->url . "/v1/certificates/$recipe->{certificateId}",
	token => $gw[0])->{content}, slurp($cert), 'and gets it');
$f->wrong('untrusted', qr/certificate/i, %azure, certificate => '');
$f->wrong('secret', qr/invalid_client/, %azure, clientSecret => 'old');

# Services may give less than what was asked for.
{
	my $in = sub { POSIX::strftime('%Y-%m-%dT%H:%M:%S', gmtime(time + shift)) };
	$by{sts}->mode('pass', change => sub {
		s/(<Expiration>)[-0-9T:]{19}/$1 . $in->(400)/e });
	$s->storage('brief', %role, expirationDuration => 'P1D');
	cmp_ok($f->sign($f->upload_of('brief', 'b', 'abc'))->{expiresIn}, '<=', 340,
	    'a session that ends sooner than asked for: so do its URIs');
	$by{sts}->mode('pass', change => sub {
		s/(<Expiration>)[-0-9T:]{19}/$1 . $in->(-400)/e });
	my $status = $s->rest('PUT', '/v1/storages/past', json => { %role,
		expirationDuration => 'P2D' })->{json}{status};
	like($status->{error}, qr/ended already/, 'one that is over is none');
	like($status->{hint}, qr/clock/, 'and what to look at');
	$by{sts}->mode('pass');
}

# ---- many at once share one renewal ----------------------------------------

for my $what ('sts', 'oauth') {
	$s->storage("many-$what", %{ $doc{$what} }, another());
	$by{$what}->mode('pass', delay => 0.5);
	my @many = map { child(sub {
		my ($res) = $f->results({ $f->upload_of("many-$what", 'k', 'x') });
		return $res->{recipe} ? 1 : json_encode($res);
	}) } 1 .. 20;
	is(join('', map { my $h = $_; <$h> } @many), '1' x 20,
	    "$what: twenty at once are all signed for");
	is($by{$what}->count, 1, "$what: by one credential");
	$by{$what}->mode('pass');
}

# ---- down, slow, rubbish ----------------------------------------------------

for my $what ('sts', 'oauth', 'key') {
	for my $mode ('down', 'rubbish', '503', 'cut') {
		my $name = "f-$what";
		# set while all is well, so that nothing is fetched for it yet
		$s->storage($name, %{ $doc{$what} }, another());
		$by{$what}->mode($mode);
		my $began = time;
		my ($bad, $good) = $f->results({ $f->upload_of($name, 'k', 'x') },
		    { $f->upload_of('file', 'k', 'x') });
		my $e = $bad->{error} // {};
		is($e->{status}, 503, "$what $mode: its uploads have to wait");
		ok($e->{retryAfter}, "$what $mode: it says how long");
		is($e->{do}, 'retry', "$what $mode: and to come again");
		like($e->{title}, $what eq 'sts' ? qr/AssumeRole/
		    : $what eq 'oauth' ? qr/token service/ : qr/Delegation Key/,
		    "$what $mode: it says who is to blame");
		ok($good->{recipe}, "$what $mode: those to another storage go");
		cmp_ok(time - $began, '<', 2.9 * $slow, "$what $mode: at once");
		my $n = $by{$what}->count;
		$f->results({ $f->upload_of($name, 'k', 'x') }) for 1 .. 3;
		is($by{$what}->count, $n, "$what $mode: it is not asked again so soon");
		$by{$what}->mode('pass');
	}
}
# Credentials that are there go on, whatever their service does.
$by{$_}->mode('down') for qw(sts oauth);
ok($f->sign($f->upload_of('sts', 'k', 'x')), 'a session that is there goes on');
ok($f->sign($f->upload_of('oauth', 'k', 'x')), 'and a key');

# One that says nothing, to thirty gateways: no other storage or tenant waits.
$by{$_}->mode('pass') for qw(sts oauth);
$s->storage('f-sts', %role, another());
$s->storage('fresh', %azure, another());
$by{sts}->mode('hang');
my @stuck = map { my $g = $_; child(sub {
	my $began = time;
	my ($bad, $good) = $g->results({ $g->upload_of('f-sts', 'k', 'x') },
	    { $g->upload_of('file', 'k', 'x') });
	return join ' ', $bad->{error}{status} // 0, $good->{recipe} ? 1 : 0,
	    time - $began < 6 * $slow ? 1 : time - $began;
}) } @f;
sleep 0.5;
my $began = time;
ok($f->sign($f->upload_of('fresh', 'k', 'x')),
    'while a service says nothing, another gives a credential');
cmp_ok(time - $began, '<', 2.9 * $slow, 'at once');
is(join("\n", map { my $h = $_; <$h> } @stuck), join("\n", ('503 1 1') x 30),
    'who needs it is told to wait, after a while, and gets the others');
cmp_ok($by{sts}->count, '<=', 4, 'few connections wait for it');
$by{sts}->mode('pass');
ok(wait_for(sub { ($f->results({ $f->upload_of('f-sts', 'k', 'x') }))[0]{recipe} },
	25), 'it is back: so are its uploads');
finish;
