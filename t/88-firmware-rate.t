#!/usr/bin/perl
# [upload] rate_limit below what an origin has to send: it is not taken for one
# that is slow itself
use strict;
use warnings;
use Edgehaul;
use Edgehaul::Publisher;
use Test::More;

Edgehaul->need_all('minisign');
my $cdn = Edgehaul->origin;
my $backup = Edgehaul->origin(files => $cdn->{files});
my $site = Edgehaul->site(start => 0);
my $fw = Edgehaul::Publisher->new($site->signer);
$site->configure(firmware => { origin => $cdn->url, backup => $backup->url,
	prefetch => 'off', publisher_key => $fw->public },
	upload => { rate_limit => '3 KB' });
my $image = $fw->image('cam-x-1.0.0', 40_000);
my $path = 'cam-x/stable/1.0.0/cam-x-1.0.0.bin';
$cdn->put($path, $image->{bytes})->put("$path.slices", $image->{list});
my $m = $fw->manifest('cam-x', 'stable', 1, [$fw->release('1.0.0', 1, $image)]);
$cdn->put('cam-x/stable/manifest.json.minisig', $m->{signature})
    ->put('cam-x/stable/manifest.json', $m->{manifest});
my $r = $site->signer->rest('PUT', '/v1/firmware/cam-x',
	json => { hw => ['1'], publicKeys => [$fw->public] });
die $r->{content} if !$r->{success};
$site->proxy->start;
$site->agent->start;
ok(wait_for(sub { $site->get('/firmware/check?p=cam-x&hw=1&v=0.1')->{content}
	=~ /status=update/ }, 30), 'a device is offered it');
my $sha = $image->{file}{sha256};
ok(wait_for(sub { my $got = $site->get("/firmware/b/$sha");
	$got->{status} == 200 && $got->{content} eq $image->{bytes} }, 60),
	'it comes');
my @asked = map { $_->requests(qr/1\.0\.0\.bin$/) } $cdn, $backup;
is(scalar @asked, 1, 'by one request')
    or diag(join "\n", map { "$_->{path} $_->{range} $_->{sent}" } @asked);
my $o = $site->get('/-/status.json')->{json}{agent}{firmware}{origins};
ok($o->{origin}{ok}, 'the origin is well') or diag(json_encode($o));
unlike($site->agent->log, qr/less than|slow|timed? ?out/i, 'nobody is blamed');
ok($site->agent->stop, 'the agent stops');
ok($site->proxy->stop, 'the proxy stops');
finish;
