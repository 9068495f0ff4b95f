# Origin.pm - an HTTP origin of firmware that can be told to misbehave
#
# Serves the files below dir, with ranges and ETags. What it does wrong is read
# from a file for each request, so it can be changed at any time:
#	fault('truncate')		for all paths
#	fault('truncate', qr/bin$/)	for some
#	fault('')			well again
# rate: octets a second of each answer. requests: what was asked of it, each
# { path, range, status, sent }.
package Edgehaul::Origin;
use strict;
use warnings;
use Digest::MD5 qw(md5_hex);
use IO::Socket::INET;
use POSIX ();
use Time::HiRes qw(sleep time);
use Edgehaul ();

sub new {
	my ($class, %o) = @_;
	my $dir = Edgehaul->dir('origin');
	my $self = bless { dir => $dir, files => $o{files} // "$dir/files",
		owner => $$, port => $o{port} // Edgehaul::free_port() }, $class;
	mkdir "$dir/files";
	Edgehaul::spit("$dir/$_", '') for qw(fault rate log);
	$self->rate($o{rate}) if $o{rate};
	Edgehaul::register($self);
	return $self->start;
}

sub url { "http://127.0.0.1:$_[0]{port}" . ($_[1] // '') }
sub name { 'origin' }
sub log { Edgehaul::slurp("$_[0]{dir}/log") }
sub running { $_[0]{pid} && kill 0, $_[0]{pid} }

sub start {
	my ($self) = @_;
	my $listen = IO::Socket::INET->new(LocalAddr => "127.0.0.1:$self->{port}",
		Listen => 64, ReuseAddr => 1) or die "origin: $!\n";
	my $pid = fork // die "fork: $!\n";
	if ($pid == 0) {
		$SIG{CHLD} = 'IGNORE';
		$SIG{$_} = 'DEFAULT' for qw(TERM INT);
		while (1) {
			my $c = $listen->accept or next;
			my $p = fork // next;
			if ($p == 0) {
				close $listen;
				eval { $self->_connection($c) };
				POSIX::_exit(0);
			}
			close $c;
		}
	}
	$self->{pid} = $pid;
	close $listen;
	return $self;
}

sub stop {
	my ($self) = @_;
	return if !$self->{pid} || $self->{owner} != $$;
	kill 'TERM', $self->{pid};
	waitpid delete $self->{pid}, 0;
	return $self;
}
sub stop_quietly { $_[0]->stop }
sub DESTROY { local $?; $_[0]->stop }

sub put {
	my ($self, $path, $bytes) = @_;
	my $file = "$self->{files}/$path";
	my $at = $self->{files};
	mkdir($at .= "/$_") for (split m{/}, $path)[0 .. ($path =~ tr{/}{}) - 1];
	Edgehaul::spit("$file.new", $bytes);
	rename "$file.new", $file or die "$file: $!\n";
	return $self;
}

sub fault {
	my ($self, $what, $where) = @_;
	Edgehaul::spit("$self->{dir}/fault", $what . ' ' . ($where // ''));
	return $self;
}

sub rate {
	my ($self, $rate) = @_;
	Edgehaul::spit("$self->{dir}/rate", $rate // '');
	return $self;
}

sub requests {
	my ($self, $like) = @_;
	my @all = map { my %r; @r{qw(path range status sent)} = split / /; \%r }
	    split /\n/, $self->log;
	return $like ? grep { $_->{path} =~ $like } @all : @all;
}

sub forget { Edgehaul::spit("$_[0]{dir}/log", ''); $_[0] }

sub _connection {
	my ($self, $c) = @_;
	$c->autoflush(1);
	local $/ = "\r\n";
	while (my $line = <$c>) {
		my ($method, $path) = $line =~ m{^(\S+) /(\S*) HTTP/1} or last;
		my %h;
		while (my $l = <$c>) {
			chomp $l;
			last if $l eq '';
			$h{ lc $1 } = $2 if $l =~ /^([^:]+):\s*(.*)/;
		}
		$path =~ s/%([0-9A-Fa-f]{2})/chr hex $1/ge;
		last if !$self->_answer($c, $path, \%h);
	}
}

sub _note {
	my ($self, $path, $h, $status, $sent) = @_;
	open my $f, '>>', "$self->{dir}/log" or return;
	syswrite $f, join(' ', $path, $h->{range} // '-', $status, $sent) . "\n";
}

# At the rate; what was sent.
sub _send {
	my ($self, $c, $bytes) = @_;
	my $sent = 0;
	my $begun = time;
	while ($sent < length $bytes) {
		my $rate = Edgehaul::slurp("$self->{dir}/rate") || 0;
		my $n = syswrite $c, $bytes, 65536 > length($bytes) - $sent
		    ? length($bytes) - $sent : 65536, $sent;
		last if !defined $n;
		$sent += $n;
		my $due = $rate ? $begun + $sent / $rate - time : 0;
		sleep $due if $due > 0;
	}
	return $sent;
}

sub _reply {
	my ($self, $c, $path, $h, $status, $head, $body) = @_;
	$self->_note($path, $h, $status, 0) if $body eq '';
	print $c "HTTP/1.1 $status X\r\n$head\r\n";
	$self->_note($path, $h, $status, $self->_send($c, $body)) if $body ne '';
	return 1;
}

sub _answer {
	my ($self, $c, $path, $h) = @_;
	my ($fault, $where) = Edgehaul::slurp("$self->{dir}/fault") =~ /^(\S*) (.*)/s;
	$fault = '' if !defined $fault || ($where ne '' && $path !~ $where);
	my $file = "$self->{files}/$path";
	return 0 if $fault eq 'close';
	if ($fault eq 'html') {
		my $page = '<html><body>Please sign in</body></html>';
		return $self->_reply($c, $path, $h, 200, "Content-Type: text/html\r\n"
		    . 'Content-Length: ' . length($page) . "\r\n", $page);
	}
	return $self->_reply($c, $path, $h, 503, "Content-Length: 0\r\n", '')
	    if $fault eq '503';
	return $self->_reply($c, $path, $h, 302, 'Location: '
	    . $self->url('/elsewhere') . "\r\nContent-Length: 0\r\n", '')
	    if $fault eq 'redirect';
	return $self->_reply($c, $path, $h, 404, "Content-Length: 0\r\n", '')
	    if $path =~ /\.\./ || !-f $file;
	my $bytes = Edgehaul::slurp($file);
	my $etag = '"' . md5_hex($bytes) . '"';
	return $self->_reply($c, $path, $h, 304, "ETag: $etag\r\n", '')
	    if ($h->{'if-none-match'} // '') eq $etag;
	my $head = "ETag: $etag\r\nCache-Control: max-age=3600\r\n";
	my ($status, $size) = (200, length $bytes);
	if (($h->{range} // '') =~ /^bytes=(\d+)-(\d+)$/ && $1 < $size
	    && $fault ne 'whole') {
		my ($from, $to) = ($1, $2 < $size ? $2 : $size - 1);
		$bytes = substr $bytes, $from, $to - $from + 1;
		$from += 262144 if $fault eq 'shifted';
		$head .= "Content-Range: bytes $from-$to/$size\r\n"
		    if $fault ne 'unsaid';
		$status = 206;
	}
	substr($bytes, length($bytes) / 2, 1) ^= "\x01" if $fault eq 'bend';
	$head .= "Content-Encoding: gzip\r\n" if $fault eq 'gzip';
	if ($fault eq 'endless') {
		print $c "HTTP/1.1 $status X\r\n${head}Connection: close\r\n\r\n";
		my $sent = $self->_send($c, $bytes);
		while (defined(my $n = syswrite $c, 'x' x 65536)) { $sent += $n }
		$self->_note($path, $h, $status, $sent);
		return 0;
	}
	$head .= 'Content-Length: ' . length($bytes) . "\r\n";
	if ($fault eq 'trickle') {
		print $c "HTTP/1.1 $status X\r\n$head\r\n";
		my $sent = 0;
		while (defined syswrite $c, $bytes, 100, $sent) {
			$sent += 100;
			sleep 0.1;
		}
		$self->_note($path, $h, $status, $sent);
		return 0;
	}
	if ($fault eq 'truncate') {
		print $c "HTTP/1.1 $status X\r\n$head\r\n";
		$self->_note($path, $h, $status,
		    $self->_send($c, substr $bytes, 0, length($bytes) / 2));
		return 0;
	}
	return $self->_reply($c, $path, $h, $status, $head, $bytes);
}

1;
