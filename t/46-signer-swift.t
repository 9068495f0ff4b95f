#!/usr/bin/perl
# What the signer signs at a second, strict S3 server: OpenStack Swift. It
# refuses what radosgw lets pass, such as another region or x-amz headers that
# were not signed.
use strict;
use warnings;
use Test::More;
use Edgehaul;

Edgehaul->need_all('swift');

my $s = Edgehaul->signer;
my $gw = $s->token('gateway', '--gateway', 'gw-1');
$s->start;
my $f = Edgehaul->follow($s, $gw);
my $store = Edgehaul->swift->bucket('shots');
my %doc = ($store->storage('shots'), partSize => 5 << 20);

$f->works('swift', %doc);
is(scalar(grep { /probe/ } $store->keys('shots')), 0, 'the probe is gone');
my $short = $f->short_lived('swift', $store, 'shots');
$f->uploads('swift', $store, 'shots');
$f->refusals('swift', $store, 'shots', 'header that was not signed' =>
	{ headers => { 'x-amz-meta-more' => 'x' } });
$f->parts('swift', $store, 'shots');
$f->ended($short);

# Virtual-host style, whose bucket stands in the name that is signed.
my %virtual = (%doc, addressing => 'virtual', endpoint =>
	"http://localhost:$store->{port}");
$s->storage('virtual', %virtual);
my $rq = $f->sign($f->upload_of('virtual', 'v.jpg', 'abc'))->{requests}[0];
is($rq->{uri} =~ m{^http://(shots\.localhost:\d+)/gw-1/v\.jpg\?} ? $1 : $rq->{uri},
    "shots.localhost:$store->{port}", 'the bucket stands before the host');
my ($rc, $out) = Edgehaul->run('curl', '-s', '-o', '/dev/null', '-w',
    '%{http_code}', '--resolve', "shots.localhost:$store->{port}:127.0.0.1",
    (map { ('-H', "$_: $rq->{headers}{$_}") } keys %{ $rq->{headers} }),
    '-X', 'PUT', '--data-binary', 'abc', $rq->{uri});
is($out, 200, 'and is taken so');
is($store->object('shots', 'gw-1/v.jpg')->{body}, 'abc', 'byte for byte');

# What radosgw does not look at, told in words.
$f->wrong('region', qr/region/, %doc, region => 'eu-central-1');
$f->wrong('secret', qr/secretAccessKey is wrong/, %doc, secretAccessKey => 'x');
$f->wrong('gone', qr/no such bucket/, %doc, bucket => 'no-such-bucket');
$f->wrong('noover', qr/does not know a header/, %doc,
    noOverwrite => JSON::PP::true());
my $r = $f->perform($f->sign($f->upload_of('region', 'r', 'x'))->{requests}[0],
    'x');
is($f->what_to_do('region', $r), 'wait', 'another region: an operator has to act');
is(scalar(grep { m{/r$} } $store->keys('shots')), 0, 'and nothing came of it');
finish;
