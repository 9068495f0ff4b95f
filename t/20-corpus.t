#!/usr/bin/perl
# Every case of the HTTP corpus against the real proxy: answers and what is kept
#
# t/data/http-corpus/README.md tells the format. Each case of up to 4 KB is sent
# whole, one octet at a time, and cut in pieces of three sizes. Then the same
# whole requests as an independent parser reads them (t/lib/backends/oracle):
# where it differs, doc/http-oracle.md must say so, and nothing else.
use strict;
use warnings;
use Edgehaul;
use Test::More;

my $corpus = Edgehaul::top_srcdir() . '/t/data/http-corpus';
my @cases = map { m{([^/]+)\.req$} } sort glob "$corpus/*.req";
cmp_ok(scalar(@cases), '>', 40, 'the corpus is there') or BAIL_OUT($corpus);
my $box = Edgehaul->gateway(signer => 'http://127.0.0.1:9', token => 't',
	conf => { spool => { repeat_window => '0 s' } });
$box->proxy->start;

sub expectation {
	my ($name) = @_;
	my ($answers, @lines) = split /\n/, slurp("$corpus/$name.expect");
	my %e = (answers => [split / /, $answers], body => []);
	for (@lines) {
		next if /^#/ || !/^(\w+): (.*)/;
		if ($1 eq 'body') {
			push @{ $e{body} }, $2;
		} else {
			$e{$1} = $2;
		}
	}
	return \%e;
}

# Does the status (0: closed without an answer) meet a word like 400|close?
sub meets {
	my ($word, $status) = @_;
	for (split /\|/, $word) {
		return 1 if $_ eq 'close' ? $status == 0
		    : /^(\d)xx$/ ? int($status / 100) == $1 : $_ == $status;
	}
	return 0;
}

# What is wrong with the answers, or ''.
sub judge {
	my ($e, $r) = @_;
	my @got = map { $_->{status} } @{ $r->{answers} };
	my @want = @{ $e->{answers} };
	return 'more answers than requests: ' . "@got" if @got > @want;
	for my $i (0 .. $#want) {
		my $s = $got[$i] // 0;
		return 'the connection stays open without an answer'
		    if $s == 0 && !$r->{closed};
		return "answer $i is " . ($s || 'a close') . ", not $want[$i]"
		    if !meets($want[$i], $s);
	}
	return 'an answer 1xx' if ($e->{interim} // '') eq 'none'
	    && $r->{interim};
	return 'it stays open'
	    if ($e->{then} // '') eq 'close' && !$r->{closed};
	return '';
}

# LENGTH SHA256 of what was kept for the answers that were 2xx.
sub kept {
	my ($r) = @_;
	return map { "$_->{json}{size} $_->{json}{sha256}" }
	    grep { $_->{status} =~ /^2/ } @{ $r->{answers} };
}

# The same as the oracle says it: what was kept, then whether one was refused.
sub outcome {
	my ($e, $r) = @_;
	my $refused = grep { $_->{status} !~ /^2/ } @{ $r->{answers} };
	$refused ||= $r->{closed} && @{ $r->{answers} } < @{ $e->{answers} };
	return join ', ', kept($r), $refused ? 'refused' : ();
}

sub accepted { $box->get('/-/status.json')->{json}{ledger}{accepted} }

# One run of a case; '' or what is wrong.
sub run_case {
	my ($e, $bytes, %o) = @_;
	my $before = accepted();
	my $n = @{ $e->{answers} };
	my $close = ($e->{then} // '') eq 'close'
	    || grep { /close/ } @{ $e->{answers} };
	my $r = Edgehaul::request_bytes($box->lan, $bytes, quiet => 0.3,
		timeout => 3, eof => ($e->{eof} // '') eq 'yes',
		($close ? () : (count => $n)), %o)
	    or return 'no connection';
	my $why = judge($e, $r);
	return $why if $why ne '';
	my @kept = kept($r);
	$e->{outcome} //= outcome($e, $r);
	my $more = accepted() - $before;
	return "$more kept, answered " . @kept if $more != @kept;
	return "kept $more, not $e->{stored}"
	    if defined $e->{stored} && $e->{stored} != $more;
	return "kept @kept" if @{ $e->{body} } && @kept
	    && "@kept" ne "@{ $e->{body} }";
	return '';
}

my %outcome;
for my $name (@cases) {
	my $e = expectation($name);
	my $bytes = slurp("$corpus/$name.req");
	is(run_case($e, $bytes), '', $name);
	$outcome{$name} = $e->{outcome};
	next if length $bytes > 4096;
	is(run_case($e, $bytes, pieces => 1), '', "$name, octet by octet");
	my $wrong = '';
	for my $cut (1 .. 3) {
		my $at = int(length($bytes) * $cut / 4) || 1;
		$wrong ||= run_case($e, $bytes, pieces => $at, pause => 0.01);
	}
	is($wrong, '', "$name, cut in pieces");
}

# ---- the oracle ------------------------------------------------------------

# Rows of the table: case, what the gateway keeps, what the oracle keeps.
sub table {
	my %row;
	for (split /\n/, slurp(Edgehaul::top_srcdir() . '/doc/http-oracle.md')) {
		$row{$1} = [$2, $3] if /^\| `([\w-]+)` \| ([^|]*) \| ([^|]*) \|/;
	}
	return \%row;
}

# "LENGTH SHA256, refused" as it stands in the table, without the sums.
sub brief {
	my $s = join ', ', map { /^(\d+) / ? "$1 octets" : $_ } split /, /, $_[0];
	return $s eq '' ? 'nothing' : $s;
}

SKIP: {
	Edgehaul::need(1, 'python3-h11');
	my ($rc, $out, $err) = Edgehaul->run(
		Edgehaul::top_srcdir() . '/t/lib/backends/oracle', $corpus);
	is($rc, 0, 'the oracle ends well') or diag($err);
	my %oracle = map { /^(\S+) (.*)/ ? ($1 => $2) : () } split /\n/, $out;
	is(scalar(keys %oracle), scalar(@cases), 'and has read every case');
	my $known = table();
	for my $name (@cases) {
		my ($we, $it) = ($outcome{$name}, $oracle{$name});
		my $row = delete $known->{$name};
		if ($row) {
			is_deeply([brief($we), brief($it)], $row,
				"$name differs as doc/http-oracle.md says");
		} else {
			is($we, $it, "$name: the oracle reads the same octets");
		}
	}
	is(join(' ', sort keys %$known), '', 'every row is of a case');
}
is($box->get('/-/health')->{status}, 200, 'the proxy is well after all that');
ok($box->proxy->stop, 'and stops cleanly');
finish;
