#!/usr/bin/perl
# /-/metrics: right numbers, a form that promtool finds nothing in
use strict;
use warnings;
use Edgehaul;
use Test::More;

my $site = Edgehaul->site(conf => {
	images => { mode => 'lossless' },
	limits => { max_upload => '1 MB' },
	'camera dock' => { address => '10.99.99.99', expect_every => '1 h' },
});
my $csv = join '', map { "2026-01-02T03:04:05Z;$_;" . 3 * $_ . ".5\n" }
    1 .. 5000;
my $sent = 0;

sub put {
	my ($path, $body) = @_;
	my $r = $site->put("/upload/$path", $body, type => 'text/csv');
	$sent++ if $r->{status} == 201;
	return $r->{status};
}

# {name}{labels} = value, of the text as it is.
my $text;
my %type;
sub scrape {
	my $r = Edgehaul::http('GET', $site->url('/-/metrics'));
	is($r->{status}, 200, 'GET /-/metrics: 200');
	like($r->{headers}{'content-type'}, qr{^text/plain; version=0\.0\.4},
		'its content type');
	$text = $r->{content};
	my (%m, %seen);
	for (split /\n/, $text) {
		if (/^# TYPE (\S+) (\S+)\z/) {
			fail("$1 stands twice") if $seen{$1}++;
			$type{$1} = $2;
		} elsif (/^(edgehaul_\w+?)(?:\{(.*)\})? (\S+)\z/) {
			$m{$1}{ $2 // '' } = $3;
		} elsif (!/^# HELP \S+ \S/) {
			fail("a line that is none: $_");
		}
	}
	return \%m;
}

sub lint {
	my ($what) = @_;
SKIP: {
		need(1, 'promtool');
		my $file = spit(Edgehaul->dir . '/metrics', $text);
		my ($rc, $out, $err) = Edgehaul->run('sh', '-c',
			"promtool check metrics <$file");
		is("$rc $out$err", '0 ', "$what: promtool finds nothing");
	}
}

my $m = scrape();
lint('an idle gateway');
is($m->{edgehaul_uploads_accepted_total}{''}, 0, 'nothing yet');
is($m->{edgehaul_camera_silent}{'camera="dock"'}, 0, 'a known camera');

# ---- at work -----------------------------------------------------------------
is(put("cam-1/$_.csv", "$_$csv"), 201, 'taken') for 1 .. 5;
is(put('cam-1/cut.jpg', substr jpeg(), 0, 9000), 201, 'a truncated JPEG');
is(put('cam-2/large.bin', 'x' x 1_100_000), 413, 'too large');
is(put('cam-2/large.bin', 'x' x 1_100_000), 413, 'too large');
# a name with all that a label has to escape
is(put('q%22z%C3%A4/a.csv', $csv), 201, 'an odd name');
ok($site->drained(30, $sent), 'delivered');
ok(wait_for(sub {
	my $r = Edgehaul::http('GET', $site->url('/-/metrics'));
	$r->{content} =~ /^edgehaul_agent_deliveries_total $sent$/m
	    && $r->{content}
	    =~ /^edgehaul_camera_images_total\{camera="cam-1"\} 6$/m;
}), 'the agent has told');
$m = scrape();
lint('a busy gateway');
my %is = (
	uploads_accepted_total => $sent, lan_uploads_total => $sent,
	uploads_waiting => 0, agent_up => 1, signer_ok => 1, spool_full => 0,
	agent_deliveries_total => $sent,
	spool_max_bytes => $site->status->{spool}{max_size},
);
is($m->{"edgehaul_$_"}{''}, $is{$_}, $_) for sort keys %is;
is($m->{edgehaul_uploads_ended_total}{'end="delivered"'}, $sent, 'delivered');
is($m->{edgehaul_uploads_ended_total}{'end="expired"'}, 0, 'none expired');
is($m->{edgehaul_http_answers_total}{'code="201"'}, $sent, 'answers by status');
is($m->{edgehaul_http_answers_total}{'code="413"'}, 2, 'refusals among them');
is($m->{edgehaul_refusals_total}{ 'code="413",reason='
	    . '"the upload is larger than max_upload"' }, 2, 'their reason');
is($m->{edgehaul_camera_uploads_total}{'camera="cam-1"'}, 6, 'per camera');
is($m->{edgehaul_camera_refused_total}{'camera="cam-2"'}, 2,
	'its refusals');
is($m->{edgehaul_storage_deliveries_total}{'storage="default"'}, $sent,
	'per storage');
is($m->{edgehaul_storage_circuit_open}{'storage="default"'}, 0,
	'its circuit is closed');
is($m->{edgehaul_images_total}{'outcome="damaged"'}, 1, 'outcomes of images');
my ($in, $out, $saved) = map { $m->{"edgehaul_camera_images_$_"}
	    {'camera="cam-1"'} } qw(in_bytes_total out_bytes_total
	saved_bytes_total);
cmp_ok($in, '>', 5 * length $csv, 'octets before');
cmp_ok($out, '<', $in / 2, 'and after');
is($saved, $in - $out, 'and saved');
cmp_ok($m->{edgehaul_camera_images_cpu_seconds_total}{'camera="cam-1"'}, '>',
	0, 'processor time');
my ($odd) = grep { /q/ } keys %{ $m->{edgehaul_camera_uploads_total} };
is($odd, "camera=\"q\\\"z\xc3\xa4\"", 'a name stays in its label');

# ---- counters only grow ------------------------------------------------------
my %before;
for my $name (grep { $type{$_} eq 'counter' } keys %$m) {
	$before{"$name\{$_}"} = [$name, $_, $m->{$name}{$_}]
	    for keys %{ $m->{$name} };
}
put("cam-1/again-$_.csv", "again $_$csv") for 1 .. 3;
put("new-$_/a.csv", "new $_$csv") for 1 .. 250;
ok($site->drained(60, $sent), 'more is delivered');
my $later = scrape();
my @shrunk = grep { ($later->{ $_->[0] }{ $_->[1] } // -1) < $_->[2] }
    values %before;
is(scalar @shrunk, 0, 'no counter has shrunk or gone')
    or diag(json_encode(\@shrunk));
like($_, qr/_total\z/, "$_ ends as counters do")
    for grep { $type{$_} eq 'counter' } sort keys %type;
my $cameras = keys %{ $later->{edgehaul_camera_uploads_total} };
cmp_ok($cameras, '<=', 201, 'names from the LAN do not fill it');
cmp_ok($later->{edgehaul_camera_uploads_total}{'camera="other"'}, '>=', 250 - 200,
	'the others count together');
lint('many cameras');

# ---- without the agent -------------------------------------------------------
$site->agent->stop;
ok(wait_for(sub {
	Edgehaul::http('GET', $site->url('/-/metrics'))->{content}
	    =~ /^edgehaul_agent_up 0$/m;
}, 20), 'an agent that is down');
scrape();
lint('no agent');
is(Edgehaul::http('PUT', $site->url('/-/metrics'), content => 'x')
	->{status}, 405, 'nothing can be put there');
finish;
