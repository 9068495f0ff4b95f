# Load.pm - cameras that send at once and remember what they were answered
#
# Sizes and bytes of a file follow from the seed and its number alone. Each
# camera is a process; it writes a line for each file: number, status, id and,
# where `mark` is a file, how large that was when the answer had come.
package Edgehaul::Load;
use strict;
use warnings;
use Digest::SHA ();
use Edgehaul ();
use Edgehaul::Raw;
use POSIX ();
use Time::HiRes ();

# seed; address (code that gives HOST:PORT); mark (a file); sizes (a list).
sub new {
	my ($class, %o) = @_;
	return bless { next => 0, sha => {}, answers => [], %o,
		dir => Edgehaul->dir('load'),
		sizes => $o{sizes} // [0, 1, 700, 4096, 30_000, 30_000, 65_536,
			120_000, 1_200_000] }, $class;
}

sub body {
	my ($self, $n) = @_;
	my $size = $self->{sizes}[$n % @{ $self->{sizes} }];
	my $unit = sprintf '%d:%d:%s', $self->{seed}, $n,
	    Digest::SHA::sha256("$self->{seed}:$n");
	return substr $unit x (1 + $size / length $unit), 0, $size;
}

sub name_of { sprintf 'cam-%d/%d.bin', $_[1] % 5, $_[1] }

sub _camera {
	my ($self, $from, $count, $out) = @_;
	my $c;
	for my $n ($from .. $from + $count - 1) {
		my $body = $self->body($n);
		my ($r, $tries);
		while (++$tries < 200) {
			$c //= Edgehaul::Raw->new($self->{address}->());
			$r = $c && $c->put('/upload/' . $self->name_of($n),
				$body, type => 'application/x-test');
			last if $r;
			$c = undef;
			Time::HiRes::sleep(0.02);
		}
		my $mark = $self->{mark} ? -s $self->{mark} : 0;
		print $out join(' ', $n, $r ? $r->{status} : 0,
			$r && $r->{json}{id} || '-', $mark), "\n";
	}
}

# Begin: so many cameras, so many files each.
sub begin {
	my ($self, $cameras, $each) = @_;
	for (1 .. $cameras) {
		my $from = $self->{next};
		$self->{next} += $each;
		my $pid = fork // die "fork: $!\n";
		if ($pid == 0) {
			$SIG{TERM} = 'DEFAULT';
			open my $out, '>', "$self->{dir}/$from"
			    or POSIX::_exit(2);
			$out->autoflush(1);
			eval { $self->_camera($from, $each, $out); 1 }
			    or print STDERR $@;
			close $out;
			POSIX::_exit(0);
		}
		$self->{running}{$pid} = $from;
		$self->{sha}{ Digest::SHA::sha256_hex($self->body($_)) } = $_
		    for $from .. $from + $each - 1;
	}
	return $self;
}

# Wait for all of them; what they were answered since the last call.
sub end {
	my ($self) = @_;
	my @new;
	for my $pid (sort { $a <=> $b } keys %{ $self->{running} }) {
		my $from = delete $self->{running}{$pid};
		waitpid $pid, 0;
		for (split /\n/, Edgehaul::slurp("$self->{dir}/$from")) {
			my ($n, $status, $id, $mark) = split ' ';
			my $body = $self->body($n);
			push @new, { n => $n, status => $status, id => $id,
				mark => $mark, size => length $body,
				sha256 => Digest::SHA::sha256_hex($body),
				name => $self->name_of($n) };
		}
	}
	push @{ $self->{answers} }, @new;
	return @new;
}

# All that were answered 2xx.
sub accepted { grep { $_->{status} =~ /^2/ } @{ $_[0]{answers} } }
# The file with this SHA-256, if any camera sent it.
sub sent { $_[0]{sha}{ $_[1] } }

1;
