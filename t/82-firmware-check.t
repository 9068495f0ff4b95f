#!/usr/bin/perl
# GET /firmware/check: three forms of one decision, with no WAN at all; what a
# device says of itself decides, and what nobody can vouch for changes nothing
use strict;
use warnings;
use Edgehaul;
use Edgehaul::Firmware;
use Edgehaul::Raw;
use Test::More;

my $box = Edgehaul->gateway(signer => 'http://127.0.0.1:9', token => 't');
my $fw = Edgehaul::Firmware->new($box);
my %f = map { $_ => $fw->file("$_.bin", "firmware $_") } qw(1.0.0 1.2.0
	1.4.0 1.5.0 loader);
$f{long} = $fw->file('a-very-long-name-of-a-firmware-image-file.swu', 'long');
$fw->release('1.0.0', files => [$f{'1.0.0'}]);
$fw->release('1.2.0', files => [$f{'1.2.0'}], hw => ['1.0', '1.1']);
$fw->release('1.4.0', hw => ['1.0', '1.1'], min_from => '1.2.0',
	files => [$f{'1.4.0'}, { %{ $f{loader} }, component => 'loader' }]);
my $part = $fw->release('1.5.0', files => [$f{'1.5.0'}], hw => ['1.0'],
	min_from => '1.4.0', percent => 30, salt => 's');
$fw->publish;
$fw->tool('meta', 'products', '["cam-x","cam-soon","cam-greed"]');
$fw->bell;
$box->proxy->start;
wait_for(sub { $box->get('/firmware/check?p=none')->{status} != 503 })
    or BAIL_OUT('the cache does not open');

sub check {
	my ($query, %o) = @_;
	my $c = Edgehaul::Raw->new($box->lan, from => $o{from});
	my %h = (Host => 'gw.lan:8080', %{ $o{headers} // {} });
	$c->send("GET /firmware/check?$query HTTP/1." . ($o{minor} // 1)
		. "\r\n" . join('', map { "$_: $h{$_}\r\n" }
			grep { defined $h{$_} } sort keys %h) . "\r\n");
	my $r = $c->response // {};
	$r->{line} = { map { /^(\w+)=(.*)$/ ? ($1, $2) : () }
		split /\n/, $r->{body} // '' };
	return $r;
}
sub said { my $l = check(@_)->{line};
	return join ' ', grep { defined } $l->{status}, $l->{version} }
# Give the proxy another manifest and wait until it is used.
sub republish {
	$fw->publish;
	wait_for(sub {
		my ($m) = @{ $box->get('/-/status.json')->{json}{firmware}
			{manifests} };
		$m->{seq} == $fw->{seq};
	}) or fail('the new manifest is used');
}

# ---- the three forms -------------------------------------------------------
{
	my $q = 'p=cam-x&hw=1.0&v=1.0.0&id=SN-1';
	my $r = check($q);
	my $f = $f{'1.2.0'};
	is($r->{status}, 200, 'lines');
	my $b64 = Digest::SHA::sha256_base64($f->{content}) . '=';
	like($r->{body}, qr{\Astatus=update\nversion=1\.2\.0\n
		url=http://gw\.lan:8080/firmware/b/$f->{sha256}/1\.2\.0\.bin\n
		size=$f->{size}\nsha256=$f->{sha256}\nsha256b64=\Q$b64\E\n
		retry=\d+\nasof=20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ\n\z}x,
		'in a fixed order');
	like($r->{headers}{'cache-control'}, qr/no-cache/, 'not kept');
	my $etag = $r->{headers}{etag};
	is(check($q, headers => { 'If-None-Match' => $etag })->{status}, 304,
		'304 to who knows');
	$r = check($q, headers => { Accept => 'application/json' });
	my $j = json_decode($r->{body});
	is($j->{status}, 'update', 'JSON');
	is($j->{sha256}, $f->{sha256}, 'the hash');
	is(scalar @{ $j->{files} }, 1, 'its file');
	is($j->{files}[0]{sha1}, $f->{sha1}, 'with all hashes');
	cmp_ok($j->{age}, '<', 60, 'how old that is');
	for (['Application/JSON;q=0.9, text/plain', 1], ['*/*', 0],
		['text/plain, application/json; q=0', 0]) {
		my ($accept, $json) = @$_;
		$r = check($q, headers => { Accept => $accept });
		is($r->{headers}{'content-type'} eq 'application/json' ? 1 : 0,
			$json, "Accept: $accept");
	}
	is(said("$q&c=&ch="), 'update 1.2.0', 'what is empty is not asked for');
	$r = check("$q&r=1");
	is($r->{status}, 302, 'r=1: 302');
	is($r->{headers}{location},
		"http://gw.lan:8080/firmware/b/$f->{sha256}/1.2.0.bin", 'where');
	is($r->{body}, '', 'and nothing else');
	is(check('p=cam-x&hw=1.0&v=9.0.0&id=SN-1&r=1')->{status}, 204,
		'r=1: 204 for none');
	is(check('p=cam-x&hw=1.0&v=9.0.0&id=SN-2')->{body}
		=~ /^status=none\nretry=\d+\nasof=\S+\n\z/ ? 1 : 0, 1,
		'none in lines');
	$r = check($q, minor => 0, headers => { Host => undef });
	like($r->{line}{url}, qr{^http://127\.0\.0\.1:$box->{port}/},
		'no Host: the address that was called');
	$r = check($q, headers => { Host => 'evil"<x>' });
	like($r->{line}{url} // '', qr{^http://127\.0\.0\.1:|^$},
		'a Host that is none is not repeated');
}

# ---- updaters that say in headers who they are -----------------------------
{
	my $f = $f{'1.2.0'};
	$fw->fill($f);
	my %esp = (Host => 'gw.lan:8080', 'User-Agent' => 'ESP8266-http-Update',
		'Cache-Control' => 'no-cache', 'Connection' => 'close',
		'x-ESP8266-STA-MAC' => '18:FE:AA:AA:AA:AA',
		'x-ESP8266-AP-MAC' => '1A:FE:AA:AA:AA:AA',
		'x-ESP8266-free-space' => 671744,
		'x-ESP8266-sketch-size' => 373940,
		'x-ESP8266-sketch-md5' => 'a56f8ef78a0bebd812f62067daf1408a',
		'x-ESP8266-chip-size' => 4194304,
		'x-ESP8266-sdk-version' => '2.2.1(cfd48f3)',
		'x-ESP8266-mode' => 'sketch', 'x-ESP8266-version' => '1.0.0');
	my $esp = sub {
		my (%more) = @_;
		return check('p=cam-x&hw=1.0', from => '127.0.0.41', minor => 0,
			headers => { %esp, %more });
	};
	my $r = $esp->();
	is($r->{status}, 200, 'ESP8266: the file itself');
	ok($r->{body} eq $f->{content}, 'its bytes');
	is($r->{headers}{'x-md5'}, $f->{md5}, 'x-MD5');
	is($r->{headers}{'cache-control'}, 'no-store',
		'for this device now, not for ever');
	is($r->{headers}{'content-length'}, $f->{size}, 'the length');
	ok(!defined $r->{headers}{location}, 'no redirect');
	is($esp->('x-ESP8266-version' => '9.0.0')->{status}, 304, 'no update: 304');
	is($esp->('x-ESP8266-version' => 'mine', 'x-ESP8266-sketch-md5' =>
		$f->{md5})->{status}, 304, 'it runs these bytes: 304');
	is($esp->('x-ESP8266-free-space' => 3)->{status}, 304,
		'no room for it: 304');
	is($esp->('x-ESP8266-mode' => 'spiffs')->{status}, 304,
		'no file system in the release: 304');
	# without a version: known by the hash of what it runs
	$r = $esp->('x-ESP8266-version' => undef,
		'x-ESP8266-sketch-md5' => $f{'1.0.0'}{md5});
	ok(($r->{body} // '') eq $f->{content}, 'its version by its hash');
	my %e32 = map { my $v = $esp{$_}; (s/ESP8266/ESP32/r => $v) } keys %esp;
	$r = check('p=cam-x&hw=1.0', from => '127.0.0.42', minor => 0,
		headers => { %e32, 'User-Agent' => 'ESP32-http-Update' });
	ok(($r->{body} // '') eq $f->{content}, 'ESP32 as well');
	my ($d) = grep { $_->{id} eq '18:FE:AA:AA:AA:AA' } map { json_decode($_) }
	    split /\n/, ($box->ctl('firmware', 'devices', '--json'))[1];
	is($d->{fetched_version}, '1.2.0', 'noted under its MAC');
	my $c = Edgehaul::Raw->new($box->lan);
	$c->send("HEAD /firmware/b/$f->{sha256} HTTP/1.1\r\nHost: x\r\n\r\n");
	is($c->response(head => 1)->{headers}{'x-md5'}, $f->{md5},
		'x-MD5 of a file by its hash');

	$c->send("HEAD /firmware/check?p=cam-x&hw=1.0&v=1.0.0 HTTP/1.1\r\n"
		. "Host: x\r\nx-ESP8266-STA-MAC: x\r\n\r\n");
	is($c->response(head => 1)->{headers}{'content-length'}, $f->{size},
		'HEAD of a check');

	# RAUC polls the URL of its bundle: sent on, or nothing
	my %rauc = ('RAUC-Serial' => 'R-1', 'RAUC-System-Version' => '1.0.0',
		'RAUC-Variant' => '1.1', Range => 'bytes=0-3');
	$r = check('p=cam-x', headers => \%rauc);
	is($r->{status}, 302, 'RAUC: sent on');
	like($r->{headers}{location}, qr{/firmware/b/$f->{sha256}}, 'to the file');
	is(check('p=cam-x', headers => { %rauc, 'RAUC-Variant' => '7' })
		->{status}, 204, 'for its variant only');
	is(check('p=cam-x', headers => { %rauc, 'RAUC-System-Version' => '9' })
		->{status}, 204, 'nothing newer');

	# one that fetches it over and over and does not run it
	for (1 .. 5) {
		is($esp->('x-ESP8266-STA-MAC' => 'bad')->{status}, 200, "try $_");
	}
	is($esp->('x-ESP8266-STA-MAC' => 'bad')->{status}, 304, 'then a rest');
	is(said('p=cam-x&hw=1.0&v=1.0.0&id=bad', from => '127.0.0.41'), 'none',
		'however it asks');
	is(said('p=cam-x&hw=1.0&v=1.0.0&id=other', from => '127.0.0.43'),
		'update 1.2.0', 'others are offered it');
}

# ---- what decides ----------------------------------------------------------
is(said('p=cam-x&hw=1.0&v=1.0.0&id=a'), 'update 1.2.0', 'a stepping stone');
is(said('p=cam-x&hw=1.1&v=1.2.0&id=b'), 'update 1.4.0', 'then the next');
is(said('p=cam-x&hw=2.0&v=0.9.0&id=c'), 'update 1.0.0', 'hardware');
is(said('p=cam-x&hw=2.0&v=1.0.0&id=c'), 'none', 'none for it');
is(said('p=cam-x&hw=1.0&v=1.4.0&id=x-' . $_),
	Digest::SHA::sha256_hex("s:x-$_") =~ /^(.{8})/
	&& hex($1) * 100 / 2**32 < 30 ? 'update 1.5.0' : 'none',
	"percent: device x-$_") for 1 .. 12;
is(said('p=cam-x&hw=1.1&v=1.2.0&id=b&c=loader'), 'update 1.4.0',
	'a component');
is(check('p=cam-x&hw=1.1&v=1.2.0&id=b&c=loader')->{line}{sha256},
	$f{loader}{sha256}, 'its file');
is(said('p=cam-y&v=1'), 'none', 'an unknown product');
is(said('p=cam-x&ch=beta&v=1'), 'wait', 'a channel that is not here yet');
for ('', 'p=', 'p=../x', 'p=CAM', 'p=cam-x&ch=/') {
	is(check($_)->{status}, 400, "\"$_\" is no question");
}
{
	$fw->rings;
	my $r = check('p=cam-soon&v=1&id=soon');
	is($r->{line}{status}, 'wait', 'of the policy, but not here yet');
	ok(wait_for(sub { check('p=cam-soon&v=1&id=soon');
		grep { $_ eq 'check cam-soon stable' } $fw->rings }, 5),
		'the agent is asked');
	check("p=made-up-$_&id=evil") for 1 .. 50;
	is(scalar(grep { /^check made/ } $fw->rings), 0,
		'but not for what is made up');
}

# ---- a path under 100 characters -------------------------------------------
{
	$fw->release('1.6.0', files => [$f{long}], hw => ['9']);
	republish();
	my ($path) = (check('p=cam-x&hw=9&v=1.0.0&id=l')->{line}{url} // '')
	    =~ m{^http://[^/]+(/.*)};
	cmp_ok(length $path, '<', 100, "a short path: $path");
	is(Edgehaul::http('HEAD', $box->url($path))->{status}, 200,
		'that leads to it');
}

# ---- rules that change -----------------------------------------------------
{
	$part->{percent} = 100;
	my @d = gmtime;
	my $minute = $d[2] * 60 + $d[1];
	my $hhmm = sub { my $m = ($minute + $_[0]) % 1440;
		sprintf '%02d:%02d', $m / 60, $m % 60 };
	$part->{window} = $hhmm->(120) . '-' . $hhmm->(180);
	republish();
	my $r = check('p=cam-x&hw=1.0&v=1.4.0&id=w');
	is($r->{line}{status}, 'wait', 'outside of the window');
	cmp_ok($r->{line}{retry}, '>', 7000, 'until it opens');
	cmp_ok($r->{line}{retry}, '<=', 7200, 'in UTC');
	$r = check('p=cam-x&hw=1.0&v=1.4.0&id=w&r=1');
	is($r->{status}, 503, 'r=1: 503');
	ok($r->{headers}{'retry-after'} > 7000, 'with Retry-After');
	$part->{window} = $hhmm->(-60) . '-' . $hhmm->(60);
	republish();
	is(said('p=cam-x&hw=1.0&v=1.4.0&id=w'), 'update 1.5.0', 'inside of it');
	$part->{halted} = JSON::PP::true();
	republish();
	is(said('p=cam-x&hw=1.0&v=1.4.0&id=w'), 'none', 'halted');
	$part->{halted} = JSON::PP::false();
	$part->{after} = Edgehaul::Firmware::time_text(time + 1000);
	republish();
	is(said('p=cam-x&hw=1.0&v=1.4.0&id=w'), 'none', 'not before');
	delete @$part{qw(after window)};
	$fw->{revoked} = [$f{'1.5.0'}{sha256}];
	republish();
	is(said('p=cam-x&hw=1.0&v=1.4.0&id=w'), 'none', 'revoked');
	$fw->{revoked} = [];
	$part->{set} = 'spring';
	my $other = $fw->release('7.0.0', files => [$f{loader}], hw => ['none'],
		set => 'spring', halted => JSON::PP::true());
	republish();
	is(said('p=cam-x&hw=1.0&v=1.4.0&id=w'), 'none', 'a set is halted whole');
	$other->{halted} = JSON::PP::false();
	republish();
	is(said('p=cam-x&hw=1.0&v=1.4.0&id=w'), 'update 1.5.0', 'or goes whole');
	is(scalar @{ json_decode(check('p=cam-x&hw=1.0&v=1.4.0&id=w',
		headers => { Accept => 'application/json' })->{body})->{files} },
		2, 'with the files of all');
	# expired: what a device was offered stays, nothing new
	$fw->{expires} = -1;
	republish();
	is(said('p=cam-x&hw=1.0&v=1.4.0&id=w'), 'update 1.5.0',
		'expired: offered before');
	is(said('p=cam-x&hw=1.0&v=1.4.0&id=new'), 'none',
		'expired: nothing new');
	ok($box->get('/-/status.json')->{json}{firmware}{manifests}[0]{expired},
		'status tells');
}

# ---- who may fetch ---------------------------------------------------------
{
	$fw->{expires} = 86400;
	$fw->fill($f{'1.2.0'});
	$fw->fill($f{'1.0.0'});
	$box->configure(firmware => { require_check => 'yes' });
	$box->proxy->reload;
	republish();
	my $get = sub {
		my ($name, $from) = @_;
		my $c = Edgehaul::Raw->new($box->lan, from => $from);
		$c->send("GET /firmware/b/$f{$name}{sha256} HTTP/1.1\r\n"
			. "Host: x\r\n\r\n");
		return $c->response->{status};
	};
	is($get->('1.2.0', '127.0.0.31'), 403, 'require_check: not asked');
	check('p=cam-x&hw=1.0&v=1.0.0&id=z', from => '127.0.0.31');
	is($get->('1.2.0', '127.0.0.31'), 200, 'offered');
	is($get->('1.0.0', '127.0.0.31'), 403, 'another release was not');
	spit("$box->{dir}/state/blocked.json", '{"devices":["z"]}');
	ok(wait_for(sub { check('p=cam-x&hw=1.0&v=1.0.0&id=z',
		from => '127.0.0.31')->{status} == 403 }), 'a blocked device: 403');
	is($get->('1.2.0', '127.0.0.31'), 403, 'also for what it was offered');
	is(check('p=cam-x&hw=1.0&v=1.0.0&id=y', from => '127.0.0.32')->{status},
		200, 'others go on');
}

# ---- a manifest that nobody signed -----------------------------------------
{
	my ($rc) = Edgehaul->run(Edgehaul::top_builddir() . '/t/firmware/cache',
		$fw->{cache}, 'key', "$fw->{dir}/secret.key");
	$fw->{revoked} = [];
	$fw->publish; # by another key
	ok(wait_for(sub { $box->proxy->log =~ /is not signed by/ }),
		'a manifest of another key is not used');
	is(check('p=cam-x&hw=1.0&v=1.0.0&id=y', from => '127.0.0.32')
		->{line}{status}, 'wait', 'nor offered from');
}

# ---- what is noted ---------------------------------------------------------
{
	my %d = map { my $d = json_decode($_); ($d->{id} => $d) }
	    split /\n/, ($box->ctl('firmware', 'devices', '--json'))[1];
	is($d{'SN-2'}{version}, '9.0.0', 'what a device says it runs');
	is($d{'SN-1'}{offered}, '1.2.0', 'what it was offered');
	like(($box->ctl('firmware', 'devices'))[1], qr/DEVICE.*\n(.*\n)*SN-1 /,
		'as a table');
	ok(wait_for(sub { eval { $fw->tool('meta', 'seen/cam-x') } }),
		'the product is noted as seen');
	ok(!eval { $fw->tool('meta', 'seen/made-up-1'); 1 },
		'what is made up is not');
	# one that asks for everything pins nothing
	check("p=$_&id=greedy", from => '127.0.0.40')
	    for qw(cam-x cam-soon cam-a cam-greed);
	ok(wait_for(sub { $fw->tool('devices') =~ /"greedy"/ }), 'it is noted');
	$fw->tool('meta', 'x', 'after'); # behind what the proxy wrote
	ok(!eval { $fw->tool('meta', 'seen/cam-greed') =~ /^[1-9]/ },
		'but not for the product it asked for last');
	my $st = $box->get('/-/status.json')->{json}{firmware}{fleet};
	cmp_ok($st->{devices}, '>=', 20, 'counted');
	my ($v) = grep { $_->{version} eq '1.4.0' } @{ $st->{versions} };
	cmp_ok($v->{devices}, '>=', 12, 'by version');
}
ok($box->proxy->stop, 'the proxy stops');
finish;
