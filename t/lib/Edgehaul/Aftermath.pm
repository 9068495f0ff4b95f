# Aftermath.pm - is a spool what it must be after a crash?
#
# A gateway is started on the state it was left in; then every promise of the
# spool is checked from outside: by its sockets and by its files. problems()
# returns lines, none if all is well.
package Edgehaul::Aftermath;
use strict;
use warnings;
use Digest::SHA ();
use Edgehaul ();
use Edgehaul::Raw;
use IO::Socket::UNIX;
use Time::HiRes ();

my ($probes, %probe_sha) = (0);

# gateway: an Edgehaul::Gateway whose proxy runs; spool: its folder;
# accepted: what was answered 2xx, { id, size, sha256, name }; left: { id =>
# why } of what may be gone; quarantined: { id => 1 } of what may be there;
# sent: code, is this the SHA-256 of a file that was sent?
sub new {
	my ($class, %o) = @_;
	return bless { left => {}, quarantined => {}, %o, problems => [] },
	    $class;
}

sub _bad { push @{ $_[0]{problems} }, $_[1] }

# A GET on the proxy's control socket.
sub _ask {
	my ($self, $path) = @_;
	my $c = $self->{control};
	if (!$c) {
		my $s = IO::Socket::UNIX->new(
			Peer => "$self->{gateway}{dir}/run/proxy.sock")
		    or die "proxy.sock: $!\n";
		$c = $self->{control} = bless { s => $s, buf => '', eof => 0,
			timeout => 10 * Edgehaul::slowness() },
		    'Edgehaul::Raw';
	}
	$c->send("GET $path HTTP/1.1\r\nHost: localhost\r\n\r\n");
	my $r = $c->response or die "GET $path: no answer\n";
	die "GET $path: $r->{status}\n" if $r->{status} != 200;
	return $r->{json};
}

sub status { $_[0]->_ask('/-/status.json') }

sub queue {
	my ($self) = @_;
	my ($after, @all) = (0);
	while (defined $after) {
		my $page = $self->_ask("/queue?after=$after&limit=500");
		push @all, @{ $page->{uploads} };
		$after = $page->{next};
	}
	return @all;
}

sub _item_path {
	my ($self, $id) = @_;
	my $seq = substr $id, 16;
	return "$self->{spool}/item/" . substr($seq, 0, 13) . "/$seq";
}

sub _check_body {
	my ($self, $row) = @_;
	my $path = $self->_item_path($row->{id});
	open my $fh, '<:raw', $path
	    or return $self->_bad("$row->{id} has a row but no file");
	my $n = read $fh, my $body, $row->{size};
	$self->_bad("$row->{id}: the file is not what the row says")
	    if $n != $row->{size}
	    || Digest::SHA::sha256_hex($body) ne $row->{sha256};
}

# Where it may be; of what could not be read little is known.
sub _set_aside {
	my ($self, $row) = @_;
	return $row->{state} eq 'quarantined'
	    && $self->{quarantined}{ $row->{id} };
}

sub _check_accepted {
	my ($self, $rows) = @_;
	for my $a (@{ $self->{accepted} }) {
		my $row = $rows->{ $a->{id} };
		if (!$row) {
			$self->_bad("$a->{id} was answered 2xx and is lost")
			    if !$self->{left}{ $a->{id} };
			next;
		}
		next if $self->_set_aside($row);
		$self->_bad("$a->{id} was answered 2xx and is altered")
		    if $row->{size} != $a->{size}
		    || $row->{sha256} ne $a->{sha256}
		    || "$row->{device}/$row->{name}" ne $a->{name};
	}
}

sub _check_rows {
	my ($self, @rows) = @_;
	for my $row (@rows) {
		if ($self->_set_aside($row)) {
			$self->_bad("$row->{id} is quarantined and has no file")
			    if !-e "$self->{spool}/quarantine/$row->{id}"
			    && !-e $self->_item_path($row->{id});
			next;
		}
		$self->_check_body($row);
		$self->_bad("$row->{id} is a file that nobody sent")
		    if !$probe_sha{ $row->{sha256} }
		    && !$self->{sent}->($row->{sha256});
		$self->_bad("$row->{id} is $row->{state}")
		    if $row->{state} !~ /^(waiting|sending)$/;
	}
}

sub _check_ledger {
	my ($self, @rows) = @_;
	my $status = $self->status;
	my $l = $status->{ledger};
	my $sum = 0;
	$sum += $l->{$_} for qw(delivered expired evicted dropped quarantined
	    waiting);
	$self->_bad('the ledger does not balance: '
		. Edgehaul::json_encode($l)) if $sum != $l->{accepted};
	my $waiting = grep { $_->{state} ne 'quarantined' } @rows;
	$self->_bad("$l->{waiting} waiting in the ledger, $waiting in rows")
	    if $l->{waiting} != $waiting;
}

# Files that no row tells of are of uploads that ended, or were never
# answered; nothing may stay in incoming/.
sub _check_files {
	my ($self, $rows, $accepted) = @_;
	for (glob "$self->{spool}/incoming/*") {
		$self->_bad("$_ is still there");
	}
	for (glob "$self->{spool}/item/*/*") {
		my ($seq) = m{([0-9a-f]{16})$} or next;
		my ($id) = grep { substr($_, 16) eq $seq }
		    keys %$rows, keys %$accepted;
		next if !defined $id || $rows->{$id} || $self->{left}{$id};
		$self->_bad("$id has a file and no row");
	}
}

# One more upload is taken, under an id that nothing had before.
sub _check_alive {
	my ($self, $accepted) = @_;
	my $body = "after $$ " . ++$probes;
	$probe_sha{ Digest::SHA::sha256_hex($body) } = 1;
	my $r = $self->{gateway}->put("/upload/after/$probes.bin", $body);
	if (!$r || $r->{status} !~ /^2/) {
		$self->_bad('the next upload: '
			. ($r ? "$r->{status} $r->{body}" : 'no answer'));
	} elsif ($accepted->{ $r->{json}{id} }) {
		$self->_bad("$r->{json}{id} was given a second time");
	}
}

sub problems {
	my ($self) = @_;
	my %accepted = map { $_->{id} => $_ } @{ $self->{accepted} };
	eval {
		Edgehaul::wait_for(sub {
			my $s = $self->status->{spool};
			return !$s->{rebuilding} && !$s->{not_indexed};
		}, 10) or $self->_bad('the index is not made anew');
		my @rows = $self->queue;
		my %rows = map { $_->{id} => $_ } @rows;
		$self->_bad('an id stands twice') if keys %rows != @rows;
		$self->_check_accepted(\%rows);
		$self->_check_rows(@rows);
		$self->_check_ledger(@rows);
		$self->_check_files(\%rows, \%accepted);
		$self->_check_alive(\%accepted);
		1;
	} or $self->_bad("check: $@");
	return @{ $self->{problems} };
}

1;
