# Cloud.pm - a signer and a store that fail as they are told
#
# For what real ones do not do at will: refuse, stall, lie, come back. One
# process that forks per connection; what to do stands in a file that is read
# anew for each request, what was asked is in a log of JSON lines.
#
#	my $cloud = Edgehaul->cloud;
#	$cloud->rules(put => [{ status => 503, times => 2 }]);
#	$cloud->requests('PUT');       # [{ method, path, status, at, ... }]
#
# rules: token, sign => {status, delay}, put/head/delete => [{ storage, status,
# code, times, delay, headers, cut }], recipe => {...} over each recipe, edit => name
# of a sub below, expires, hosts => { STORAGE => [...] }, verify => {...},
# sha => right|wrong (X-Sha in the answer to a whole PUT), lie (as ETag),
# part_size, reports => { status, refuse_status, refuse => NAME }: 422 for how the
# gateway is, for a report of that upload; without it there are none (404).
package Edgehaul::Cloud;
use strict;
use warnings;
use Digest::MD5 ();
use Digest::SHA ();
use Fcntl qw(:flock);
use IO::Socket::INET;
use POSIX ();
use Time::HiRes ();
use Edgehaul ();

my @answers = (
	{ status => 403, code => 'Expired', do => 'sign' },
	{ status => 403, do => 'wait' },
	{ status => 404, code => 'NoSuchUpload', do => 'start' },
	{ status => 409, code => 'Exists', do => 'verify' },
	{ status => 400, code => 'Never', do => 'quarantine' },
	{ status => 200, code => 'Broken', do => 'retry' },
	{ status => 413, do => 'quarantine' },
	{ status => 503, do => 'retry' },
);

sub new {
	my ($class, %o) = @_;
	my $dir = Edgehaul->dir('cloud');
	my $self = bless { dir => $dir, owner => $$, name => 'cloud',
		token => 'cloud-token' }, $class;
	mkdir "$dir/objects";
	Edgehaul::spit("$dir/log", '');
	$self->{port} = $o{port} // Edgehaul::free_port();
	$self->rules(%{ $o{rules} // {} });
	Edgehaul::register($self);
	$self->start;
	return $self;
}

sub name { 'cloud' }
sub token { $_[0]{token} }
sub url { "http://127.0.0.1:$_[0]{port}" }
sub log { Edgehaul::slurp("$_[0]{dir}/log") }

sub rules {
	my ($self, %r) = @_;
	Edgehaul::spit("$self->{dir}/rules.new", Edgehaul::json_encode(
		{ token => $self->{token}, %r }));
	rename "$self->{dir}/rules.new", "$self->{dir}/rules";
	unlink glob "$self->{dir}/used.*";
	return $self;
}

sub requests {
	my ($self, $method, $path) = @_;
	return grep { (!defined $method || $_->{method} eq $method)
		&& (!defined $path || $_->{path} =~ $path) }
	    map { Edgehaul::json_decode($_) } split /\n/, $self->log;
}

# What is stored, by key.
sub objects {
	my ($self) = @_;
	my %o;
	for my $f (glob "$self->{dir}/objects/*.meta") {
		my $m = Edgehaul::json_decode(Edgehaul::slurp($f));
		$o{ $m->{key} } = $m;
		$m->{body} = Edgehaul::slurp($f =~ s/\.meta$//r);
	}
	return \%o;
}

sub start {
	my ($self) = @_;
	my $s = IO::Socket::INET->new(LocalAddr => '127.0.0.1',
		LocalPort => $self->{port}, Listen => 128, ReuseAddr => 1)
	    or die "port $self->{port}: $!\n";
	my $pid = fork // die "fork: $!\n";
	if ($pid == 0) {
		POSIX::setpgid(0, 0);
		$SIG{$_} = 'DEFAULT' for qw(INT TERM HUP ALRM);
		alarm(900);
		$SIG{CHLD} = 'IGNORE';
		while (1) {
			my $c = $s->accept or next;
			my $child = fork;
			if (defined $child && $child == 0) {
				close $s;
				eval { $self->_serve($c) };
				POSIX::_exit(0);
			}
			close $c;
		}
	}
	$self->{pid} = $pid;
	close $s;
	return $self;
}

sub stop {
	my ($self) = @_;
	return 1 if !$self->{pid};
	kill 'KILL', -$self->{pid}, $self->{pid};
	waitpid delete $self->{pid}, 0;
	return 1;
}

sub stop_quietly { $_[0]{owner} == $$ and $_[0]->stop }
sub DESTROY { local ($?, $!, $@); $_[0]->stop_quietly }

# ---- the server's processes ------------------------------------------------

sub _rules { Edgehaul::json_decode(Edgehaul::slurp("$_[0]{dir}/rules")) }

sub _note {
	my ($self, %e) = @_;
	open my $fh, '>>', "$self->{dir}/log" or return;
	flock $fh, LOCK_EX;
	syswrite $fh, Edgehaul::json_encode({ at => Time::HiRes::time(), %e })
	    . "\n";
	close $fh;
}

# May this rule still be used? It may be limited to some times.
sub _use {
	my ($self, $name, $rule) = @_;
	return 1 if !defined $rule->{times};
	open my $fh, '>>', "$self->{dir}/used.$name" or return 0;
	flock $fh, LOCK_EX;
	return 0 if -s $fh >= $rule->{times};
	syswrite $fh, 'x';
	close $fh;
	return 1;
}

sub _serve {
	my ($self, $c) = @_;
	my $buf = '';
	binmode $c;
	while (1) {
		while ($buf !~ /\r\n\r\n/) {
			sysread($c, $buf, 65536, length $buf) or return;
		}
		$buf =~ s/\A(.*?)\r\n\r\n//s;
		my ($line, @h) = split /\r\n/, $1;
		my ($method, $target) = split / /, $line;
		my %h = map { /^([^:]+):\s*(.*)/ ? (lc $1, $2) : () } @h;
		my %rq = (method => $method, target => $target, h => \%h,
			c => $c);
		$rq{path} = $target =~ s/\?.*//r;
		my $rule = $self->_fault(\%rq);
		my $n = $h{'content-length'} // 0;
		if ($rule && $rule->{cut}) {
			sysread($c, $buf, 1000);
			$self->_note(method => $method, path => $rq{path},
				status => 0);
			return; # the connection ends in mid-body
		}
		while (length $buf < $n) {
			sysread($c, $buf, 65536, length $buf) or do {
				$self->_note(method => $method, partial => 1,
					path => $rq{path}, status => 0,
					got => length $buf);
				return;
			};
		}
		$rq{body} = substr $buf, 0, $n, '';
		my ($status, $headers, $body) = $self->_answer(\%rq, $rule);
		$self->_note(method => $method, path => $rq{path},
			status => $status, size => $n, headers => \%h,
			$rq{path} =~ m{^/v1/(sign|reports)$} && $status == 200
			    ? (json => Edgehaul::json_decode($rq{body})) : ());
		$body //= '';
		my $len = length $body;
		if ($method eq 'HEAD') {
			$len = delete $headers->{'Content-Length'} // 0;
			$body = '';
		}
		my $out = "HTTP/1.1 $status X\r\nContent-Length: $len\r\n"
		    . 'Date: ' . POSIX::strftime('%a, %d %b %Y %H:%M:%S GMT',
			gmtime) . "\r\n"
		    . join('', map { "$_: $headers->{$_}\r\n" }
			sort keys %$headers) . "\r\n$body";
		syswrite $c, $out;
		return if ($h{connection} // '') =~ /close/i;
	}
}

# The rule that makes a request to the store fail, if there is one.
sub _fault {
	my ($self, $rq) = @_;
	my $r = $self->_rules;
	return undef if $rq->{path} !~ m{^/store/([^/]+)/};
	my ($storage, $i) = ($1, 0);
	for my $rule (@{ $r->{ lc $rq->{method} } // [] }) {
		$i++;
		next if defined $rule->{storage} && $rule->{storage} ne $storage;
		next if defined $rule->{key} && $rq->{path} !~ $rule->{key};
		next if !$self->_use("$rq->{method}.$i", $rule);
		Time::HiRes::sleep($rule->{delay}) if $rule->{delay};
		return $rule if $rule->{status} || $rule->{cut};
	}
	return undef;
}

sub _answer {
	my ($self, $rq, $rule) = @_;
	my $r = $self->_rules;
	if ($rule) {
		my $body = $rule->{code}
		    ? "<Error><Code>$rule->{code}</Code></Error>" : '';
		return ($rule->{status}, { %{ $rule->{headers} // {} } }, $body);
	}
	return $self->_store($rq, $r) if $rq->{path} =~ m{^/store/};
	return (401, {}, '{"title":"bad token"}')
	    if ($rq->{h}{authorization} // '') ne "Bearer $r->{token}";
	return $self->_sign($rq, $r) if $rq->{path} eq '/v1/sign';
	return $self->_updates($rq, $r) if $rq->{path} eq '/v1/updates';
	return $self->_reports($rq, $r->{reports})
	    if $rq->{path} eq '/v1/reports' && $r->{reports};
	return (200, {}, $r->{certificate})
	    if $rq->{path} =~ m{^/v1/certificates/} && $r->{certificate};
	return (404, {}, '{"title":"no such thing"}');
}

sub _updates {
	my ($self, $rq, $r) = @_;
	my $version = sub { $_[0]{version} // 1 };
	if ($rq->{target} =~ /after=(\d+)/) {
		my $after = $1;
		for (1 .. 100) {
			last if $version->($r) != $after;
			Time::HiRes::sleep(0.1);
			$r = $self->_rules;
		}
	}
	return (404, {}, '{}') if $r->{no_updates};
	my $hosts = $r->{hosts} // {};
	return (200, { 'Content-Type' => 'application/json' },
	    Edgehaul::json_encode({ version => $version->($r),
		devices => [map { { device => $_, blocked => JSON::PP::true } }
		    @{ $r->{blocked} // [] }],
		storages => [map { { name => $_, hosts => $hosts->{$_} } }
		    sort keys %$hosts] }));
}

sub _reports {
	my ($self, $rq, $r) = @_;
	return ($r->{status}, {}, '{"title":"told to fail"}') if $r->{status};
	my $in = Edgehaul::json_decode($rq->{body});
	my $bad = grep { defined $r->{refuse} && $_->{name} eq $r->{refuse} }
	    @{ $in->{reports} };
	return (422, {}, '{"title":"not this one"}')
	    if $bad || $r->{refuse_status} && $in->{status};
	return (200, { 'Content-Type' => 'application/json' },
	    Edgehaul::json_encode({ accepted => scalar @{ $in->{reports} } }));
}

sub _sign {
	my ($self, $rq, $r) = @_;
	my $s = $r->{sign} // {};
	Time::HiRes::sleep($s->{delay}) if $s->{delay};
	return ($s->{status}, {}, $s->{body} // '{"title":"told to fail"}')
	    if $s->{status} && $self->_use('sign', $s);
	my $in = Edgehaul::json_decode($rq->{body});
	my (@out, %storages);
	for my $u (@{ $in->{uploads} }) {
		$storages{ $u->{storage} } = \@answers;
		my $why = $r->{refuse}{ $u->{storage} } // $r->{refuse}{ $u->{device} // '' };
		push @out, { id => $u->{id}, $why ? (error => $why)
		    : (recipe => $self->_recipe($u, $r)) };
	}
	return (200, { 'Content-Type' => 'application/json' },
	    Edgehaul::json_encode(
		{ results => \@out, answers => \%storages }));
}

sub _request {
	my ($self, $u, $r, $query, %q) = @_;
	my $base = $r->{store_url} // $self->url;
	return { uri => "$base/store/$u->{storage}/$u->{key}?secret=s3cr3t&"
	    . "$query", ok => [200], headers => {}, %q };
}

sub _recipe {
	my ($self, $u, $r) = @_;
	my $step = $u->{step} // '';
	my %head = (method => 'HEAD', body => undef);
	my %recipe = (expiresIn => $r->{expires} // 60, certificateId => undef);
	my $size = $r->{part_size};
	if ($u->{method} eq 'HEAD') {
		$recipe{requests} = [$self->_request($u, $r, '', %head)];
		$recipe{verify} = $r->{head_verify} // { size => JSON::PP::true,
			header => 'X-Sha', digest => 'sha256-base64' };
	} elsif ($step eq 'abort') {
		$recipe{requests} = [$self->_request($u, $r,
			"abort=$u->{kept}{upload}", method => 'DELETE',
			body => undef, ok => [204])];
	} elsif ($size && $u->{size} > $size) {
		my $count = POSIX::ceil($u->{size} / $size);
		if ($step eq 'part') {
			my $n = $u->{part};
			my $off = ($n - 1) * $size;
			my $len = $u->{size} - $off < $size
			    ? $u->{size} - $off : $size;
			$recipe{requests} = [$self->_request($u, $r,
				"part=$n&upload=$u->{kept}{upload}",
				method => 'PUT', body => { range =>
				    { offset => $off, length => $len } },
				keep => { "part.$n" => { header => 'ETag' } })];
			$recipe{verify} = { header => 'ETag',
				digest => 'md5-hex' };
			$recipe{step} = 'finish';
		} elsif ($step eq 'finish') {
			$recipe{requests} = [$self->_request($u, $r,
				"finish=$u->{kept}{upload}", method => 'POST',
				body => { text => join ',', map {
				    $u->{kept}{"part.$_"} } 1 .. $count }),
			    $self->_request($u, $r, '', %head)];
			$recipe{verify} = { size => JSON::PP::true,
				header => 'X-Sha', digest => 'sha256-base64' };
		} else {
			$recipe{requests} = [$self->_request($u, $r, 'begin',
				method => 'POST', body => undef,
				keep => { upload => { tag => 'UploadId' } })];
			$recipe{parts} = { size => $size, count => $count,
				parallel => 1 };
			$recipe{step} = 'part';
		}
	} else {
		$recipe{requests} = [$self->_request($u, $r, '',
			method => 'PUT', body => { file => JSON::PP::true },
			headers => { 'Content-Type' => $u->{contentType}
				// 'application/octet-stream' })];
		$recipe{verify} = $r->{verify} // { header => 'ETag',
			digest => 'md5-hex' };
	}
	%recipe = (%recipe, %{ $r->{recipe} // {} });
	$recipe{requests}[0] = { %{ $recipe{requests}[0] },
		%{ $r->{request} // {} } };
	return \%recipe;
}

sub _file {
	my ($self, $name) = @_;
	return "$self->{dir}/objects/" . unpack 'H*', Digest::MD5::md5($name);
}

sub _save {
	my ($self, $key, $body, %meta) = @_;
	my $f = $self->_file($key);
	Edgehaul::spit("$f.$$", $body);
	rename "$f.$$", $f;
	Edgehaul::spit("$f.$$", Edgehaul::json_encode({ key => $key,
		size => length $body, %meta }));
	rename "$f.$$", "$f.meta";
}

sub _store {
	my ($self, $rq, $r) = @_;
	my ($key) = $rq->{path} =~ m{^/store/(.*)};
	my %q = map { /(.*?)=(.*)/ ? ($1, $2) : ($_, '') }
	    split /&/, ($rq->{target} =~ /\?(.*)/)[0] // '';
	return (403, {}, '<Error><Code>Forged</Code></Error>')
	    if ($q{secret} // '') ne 's3cr3t';
	my $f = $self->_file($key);
	if ($rq->{method} eq 'HEAD') {
		return (404, {}) if !-f $f;
		my $b = Edgehaul::slurp($f);
		return (200, { 'Content-Length' => length $b,
			ETag => '"' . Digest::MD5::md5_hex($b) . '"',
			'X-Sha' => Digest::SHA::sha256_base64($b) . '=' });
	}
	my $etag = '"' . Digest::MD5::md5_hex($rq->{body}) . '"';
	$etag = '"' . ('0' x 32) . '"' if $r->{lie};
	return (204, {}) if exists $q{abort};
	return (200, {}, "<R><UploadId>u-1&amp;2</UploadId></R>")
	    if exists $q{begin};
	if (defined $q{part}) {
		return (404, {}, '<Error><Code>NoSuchUpload</Code></Error>')
		    if $r->{lost} && $self->_use('lost', { times => 1 });
		Edgehaul::spit("$f.part.$q{part}", $rq->{body});
		return (200, { ETag => $etag });
	}
	if (defined $q{finish}) {
		my $n = split /,/, $rq->{body};
		$self->_save($key, join '', map {
		    Edgehaul::slurp("$f.part.$_") } 1 .. $n);
		return (200, {}, '<R/>');
	}
	return (409, {}, '<Error><Code>Exists</Code></Error>')
	    if $r->{create_only} && -f $f;
	$self->_save($key, $rq->{body}, type => $rq->{h}{'content-type'});
	return (200, { ETag => $etag, $r->{sha} ? ('X-Sha' =>
		Digest::SHA::sha256_base64($r->{sha} eq 'wrong' ? 'x'
		    : $rq->{body}) . '=') : () });
}

1;
