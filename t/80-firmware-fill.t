#!/usr/bin/perl
# The agent's half of firmware: manifests that are signed or refused, and slices
# from origins that misbehave in every way. The proxy's rings are made by hand.
use strict;
use warnings;
use Edgehaul;
use Edgehaul::Publisher;
use IO::Socket::UNIX;
use Socket qw(SOCK_DGRAM);
use Test::More;
use Time::HiRes qw(sleep time);

Edgehaul->need_all('minisign');
my $SLICE = 262144;
my $cdn = Edgehaul->origin;
my $backup = Edgehaul->origin(files => $cdn->{files});
my $site = Edgehaul->site(start => 0, conf => { firmware => {} });
my $fw = Edgehaul::Publisher->new($site->signer);
my $thief = Edgehaul::Publisher->new($site->signer);
$site->configure(firmware => { origin => $cdn->url, backup => $backup->url,
	publisher_key => $fw->public, prefetch => 'off', cache_size => '200 MB' });
my @products = qw(cam-x cam-sig cam-bent cam-other cam-late cam-text cam-old
    cam-new);
for my $p (@products) {
	my $r = $site->signer->rest('PUT', "/v1/firmware/$p",
	    json => { hw => ['1'], publicKeys => [$fw->public] });
	die "$p: $r->{status} $r->{content}" if !$r->{success};
}

# ---- what the tests do ------------------------------------------------------
my %bytes; # by SHA-256
my @releases;
my $seq = 1;

# A blob of the next release of cam-x: its hash.
sub add {
	my ($name, $size) = @_;
	my $image = $fw->image($name, $size);
	my $sha = $image->{file}{sha256};
	my $version = '1.0.' . @releases;
	push @releases, $fw->release($version, 1 + @releases, $image);
	my $path = "cam-x/stable/$version/$name.bin";
	$cdn->put($path, $image->{bytes})->put("$path.slices", $image->{list});
	$bytes{$sha} = $image->{bytes};
	return $sha;
}

sub publish_as {
	my ($product, $m) = @_;
	my $at = "$product/stable/manifest.json";
	$cdn->put("$at.minisig", $m->{signature})->put($at, $m->{manifest});
}

sub publish {
	my (%more) = @_;
	my $m = $fw->manifest('cam-x', 'stable', $seq, \@releases, %more);
	publish_as('cam-x', $m);
	return $m;
}

sub status {
	my $s = IO::Socket::UNIX->new(Peer => "$site->{dir}/run/agent.sock")
	    or return {};
	print $s "GET /status HTTP/1.0\r\n\r\n";
	local $/;
	my $r = <$s> // '';
	my ($body) = $r =~ /\r\n\r\n(.*)/s or return {};
	return json_decode($body)->{firmware} // {};
}

sub feed {
	my ($product) = @_;
	return (grep { $_->{product} eq $product } @{ status()->{products} // [] })[0]
	    // {};
}

sub ring {
	my $s = IO::Socket::UNIX->new(Type => SOCK_DGRAM,
		Peer => "$site->{dir}/run/agent.bell") or return;
	$s->send("@_");
}

sub have { my $f = "$site->{dir}/state/cache/blob/$_[0]"; -f $f ? slurp($f) : '' }
sub is_whole { my ($sha) = @_; return have($sha) eq $bytes{$sha} }

# Ring as a reader that waits does, until all of it is there.
sub fetch {
	my ($sha, $secs, $first, $count) = @_;
	my $rung = 0;
	return wait_for(sub {
		if (time - $rung > 1) {
			ring('want', $sha, $first // 0, $count // 99999);
			$rung = time;
		}
		return is_whole($sha);
	}, $secs // 20);
}

# All origins may be tried again, all manifests are asked for.
sub hup {
	$site->agent->reload;
}

# ---- the operator is told what to do ----------------------------------------
sub told {
	my ($like, $what, %set) = @_;
	$site->configure(firmware => { publisher_key => $fw->public, %set });
	my ($rc, $out) = $site->ctl('check');
	like($out, $like, $what);
	isnt($rc, 0, "$what: refused");
	$site->configure(firmware => { publisher_key => $fw->public,
		prefetch => 'off', origin => $cdn->url });
}
told(qr/secret key: it belongs to the publisher/, 'a secret key',
    publisher_key => $fw->key);
told(qr/is not there, and is no key; save/, 'a file that is not there',
    publisher_key => 'nowhere.pub');
told(qr/origin needs publisher_key/, 'no key', publisher_key => undef);
told(qr/prefetch: off, on, or/, 'no time of day', prefetch => '1-5');
told(qr/the names of the files are put behind/, 'a query',
    origin => $cdn->url('/x?y'));

# ---- manifests --------------------------------------------------------------
my $small = add('small', 100);
my $one = add('one', 5 * $SLICE + 1);
my $big = add('big', 160 * $SLICE);
my $slow = add('slow', 64 * $SLICE);
my $gone = add('gone', 32 * $SLICE);
my @ways = qw(truncate bend shifted unsaid whole gzip html endless trickle 503
    redirect close);
my %way = map { $_ => add("way-$_", 4 * $SLICE + 77) } @ways;
my %list = map { $_ => add("list-$_", 2 * $SLICE + 3) } qw(bend truncate html);
my $nowhere = add('nowhere', 2 * $SLICE);
my $good = publish();
sub other { $fw->manifest($_[0], 'stable', 1, [], @_[1 .. $#_]) }
publish_as('cam-sig', $thief->manifest('cam-sig', 'stable', 1, []));
my $bent = other('cam-bent');
$bent->{manifest} =~ s/"seq":1/"seq":2/;
publish_as('cam-bent', $bent);
publish_as('cam-other', $good);
publish_as('cam-late', other('cam-late', issued => '2020-01-01T00:00:00Z',
	expires => '2020-01-02T00:00:00Z'));
publish_as('cam-text', { manifest => '[1]', signature => $fw->sign('[1]', 'x') });
publish_as('cam-old', other('cam-old'));
$site->proxy->start;
$site->agent->start;
ok(wait_for(sub { (feed('cam-x')->{seq} // 0) == 1 }), 'a signed manifest is taken')
    or diag(json_encode(status()));
sub refused {
	my ($product, $why) = @_;
	wait_for(sub { (feed($product)->{error} // '') =~ $why });
	like(feed($product)->{error}, $why, "$product: refused");
	is(feed($product)->{seq}, 0, "$product: nothing taken");
}
refused('cam-sig', qr/key that is not in publisher_key/);
refused('cam-bent', qr/does not fit/);
refused('cam-other', qr/it is that of cam-x/);
refused('cam-text', qr/no manifest/);
refused('cam-new', qr/answered 404/);
ok(wait_for(sub { feed('cam-late')->{expired} }), 'an expired one is told');
is_deeply([sort grep { !/^cam-/ } map { $_->{path} } $cdn->requests], [],
    'no other product was asked for');

# Back, or sideways: no. Forward: yes.
my $two = $fw->manifest('cam-old', 'stable', 2, []);
publish_as('cam-old', $two);
hup();
ok(wait_for(sub { (feed('cam-old')->{seq} // 0) == 2 }), 'the next seq is taken');
publish_as('cam-old', other('cam-old'));
$cdn->forget;
hup();
ok(wait_for(sub { $cdn->requests(qr{cam-old/stable/manifest.json$}) }), 'asked');
sleep 0.3;
is(feed('cam-old')->{seq}, 2, 'never an older one');
unlike($site->agent->log, qr/cam-old: manifest refused/, 'which a CDN may have');
publish_as('cam-old', $fw->manifest('cam-old', 'stable', 2, [],
	issued => '2026-02-02T00:00:00Z'));
hup();
ok(wait_for(sub { (feed('cam-old')->{error} // '') =~ /used before/ }),
    'the same seq with other bytes: refused') or diag(json_encode(feed('cam-old')));
like($site->agent->log, qr/error firmware cam-old\S*: manifest refused/, 'loudly');
# The pair is being replaced: the signature is that of before.
$two = $fw->manifest('cam-old', 'stable', 3, []);
$cdn->put('cam-old/stable/manifest.json', $two->{manifest})
    ->put('cam-old/stable/manifest-3.json.minisig', $two->{signature});
hup();
ok(wait_for(sub { (feed('cam-old')->{seq} // 0) == 3 }), 'signature by its own name');

# ---- slices from a good origin ----------------------------------------------
$cdn->forget;
ok(fetch($small), 'a file of one slice');
is(scalar(grep { /slices$/ } map { $_->{path} } $cdn->requests), 0, 'needs no list');
$cdn->forget;
ring('want', $big, 159, 1);
ok(wait_for(sub { have($big) ne ''
	&& substr(have($big), 159 * $SLICE) eq substr $bytes{$big}, 159 * $SLICE }),
    'a cold slice at the end');
my @asked = $cdn->requests(qr/big\.bin$/);
is("@{[map { $_->{range} } @asked]}", 'bytes=41680896-41943039', 'costs itself');
ok(fetch($big), 'then the rest');
@asked = $cdn->requests(qr/big/);
cmp_ok(scalar @asked, '<=', 7, 'in few requests') or diag(json_encode(\@asked));
my $sum = 0;
$sum += $_->{sent} for @asked;
is($sum, length($bytes{$big}) + 160 * 32, 'no octet twice');
ring('want', 'f' x 64, 0, 1);
ring('want', $big, 0, 160);
sleep 0.3;
is(scalar $cdn->requests(qr/big/), scalar @asked, 'nor later');

# ---- and from bad ones ------------------------------------------------------
for my $way (@ways) {
	$cdn->fault($way, "way-$way.bin\$");
	hup();
	my $before = status()->{origins}{origin}{failed};
	ok(fetch($way{$way}), "$way: whole by another origin")
	    or diag(json_encode(status()));
	cmp_ok(status()->{origins}{origin}{failed}, '>', $before,
	    "$way: counted against it");
	my ($sent) = sort { $b <=> $a } map { $_->{sent} } $cdn->requests(qr/way-$way.bin$/);
	cmp_ok($sent // 0, '<', 16 << 20, "$way: not listened to for long");
}
for my $way (sort keys %list) {
	$cdn->fault($way, 'slices$');
	hup();
	ok(fetch($list{$way}), "slice list: $way: by another origin");
}
$cdn->fault('');
$_->fault('bend', 'nowhere') for $cdn, $backup;
hup();
ring('want', $nowhere, 0, 2);
ok(wait_for(sub { $backup->requests(qr/nowhere.bin/) }), 'bad at all origins');
sleep 0.5;
ring('want', $nowhere, 0, 2);
sleep 0.5;
ok(substr(have($nowhere), 0, $SLICE) eq "\0" x $SLICE, 'nothing of it is kept');
$_->fault('') for $cdn, $backup;
hup();
ok(fetch($nowhere), 'and fetched when they are well');

# ---- kill -9 ----------------------------------------------------------------
$_->rate(4 << 20) for $cdn, $backup;
my $before = status()->{fills}{slices};
ring('want', $slow, 0, 64);
ok(wait_for(sub { ring('want', $slow, 0, 64) if !int rand 20;
	status()->{fills}{slices} - $before >= 30 }), 'half of it is there');
my $there = status()->{fills}{slices} - $before;
$site->agent->kill9;
sleep 0.5; # what was cut off is in their logs
$_->forget for $cdn, $backup;
$site->agent->start;
ok(wait_for(sub { (feed('cam-x')->{seq} // 0) == 1 }), 'the manifest is kept');
ok(fetch($slow), 'whole after a kill');
$sum = 0;
$sum += $_->{sent} for map { $_->requests(qr/slow/) } $cdn, $backup;
cmp_ok($sum, '<=', (64 - $there) * $SLICE, 'only what was missing');
is(scalar(grep { $_->{path} =~ /slices$/ } $cdn->requests(qr/slow/)), 0,
    'nor the list again');

# ---- revoked ----------------------------------------------------------------
$_->rate(1 << 20) for $cdn, $backup;
$before = status()->{fills}{slices};
ring('want', $gone, 0, 32);
ok(wait_for(sub { status()->{fills}{slices} - $before >= 4 }), 'under way');
$seq = 2;
publish(revoked => [$gone]);
hup();
ok(wait_for(sub { (feed('cam-x')->{seq} // 0) == 2 }), 'revoked meanwhile');
ok(wait_for(sub { have($gone) eq '' }), 'dropped');
ok(wait_for(sub { status()->{fills}{running} == 0 }), 'and stopped');
$_->rate('') for $cdn, $backup;
sleep 0.5; # what was cut off is in their logs
my $asked = () = map { $_->requests(qr/gone/) } $cdn, $backup;
ring('want', $gone, 0, 32);
sleep 0.5;
is(scalar(() = map { $_->requests(qr/gone/) } $cdn, $backup), $asked,
    'and not asked for again');
my $s = status();
cmp_ok($s->{cache}{reserved}, '<=', $s->{cache}{limit}, 'never over the limit');

# ---- mirrors ----------------------------------------------------------------
$site->configure('mirror vendor' => { url => $cdn->url('/vendor') });
$cdn->put('vendor/a b/x.bin', my $plain = 'p' x 700_000);
hup();
ring('mirror', 'vendor', 'a%20b/x.bin');
my $hex = sha256_hex('a%20b/x.bin');
my $dir = "$site->{dir}/state/cache/mirror/vendor";
ok(wait_for(sub { -f "$dir/$hex.json" }), 'a mirrored file');
ok(slurp("$dir/$hex") eq $plain, 'is whole');
is(json_decode(slurp("$dir/$hex.json"))->{size}, 700_000, 'and told');
$cdn->forget;
ring('mirror', @$_) for ['other', 'x'], ['vendor', '../cam-x/x'],
    ['vendor', '%2e%2e/cam-x/x'], ['vendor', '/etc/passwd'];
$cdn->fault('truncate', 'cut');
$cdn->put('vendor/cut', $plain);
ring('mirror', 'vendor', 'cut');
ok(wait_for(sub { $cdn->requests(qr/cut/) }), 'one that is cut off');
sleep 0.3;
is(scalar(grep { $_->{path} !~ /cut|manifest/ } $cdn->requests), 0, 'no other is asked for');
ok(!-f "$dir/" . sha256_hex('cut'), 'is not kept');
finish;
