# Detour.pm - a way to a real server on which things go wrong as they are told
#
# Octets are passed on as they are, so that signatures of the Host and TLS stay
# what they were. mode():
#	pass      to the server and back (what is signed for is the detour's port)
#	down      nobody listens
#	hang      takes the connection and says nothing
#	rubbish   200 with what no server of the kind would say
#	503       503 without words
#	cut       half an answer, then the end
# `delay` seconds are waited before each connection is passed on. `change` is
# called with each piece of an answer in $_, whose length it must keep. With `record`
# all octets of both directions are kept, for record().
package Edgehaul::Detour;
use strict;
use warnings;
use Edgehaul ();
use IO::Select;
use IO::Socket::INET;
use POSIX ();
use Time::HiRes ();

my %says = (
	rubbish => "HTTP/1.1 200 OK\r\nContent-Length: 20\r\n"
	    . "Connection: close\r\n\r\n<x>\0{]]no}\xff<AccessK",
	503 => "HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n"
	    . "Connection: close\r\n\r\n",
	cut => "HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n<Assume",
);

# to: HOST:PORT
sub new {
	my ($class, $to) = @_;
	my $dir = Edgehaul->dir('detour');
	my $self = bless { dir => $dir, owner => $$, to => $to,
		port => Edgehaul::free_port() }, $class;
	Edgehaul::register($self);
	return $self->mode('pass');
}

sub name { 'detour' }
sub authority { "127.0.0.1:$_[0]{port}" }

sub record { Edgehaul::slurp("$_[0]{dir}/record") }

# How many connections there were since the last mode().
sub count { -s "$_[0]{dir}/count" || 0 }

sub mode {
	my ($self, $mode, %o) = @_;
	$self->stop_quietly;
	Edgehaul::spit("$self->{dir}/count", '');
	return $self if $mode eq 'down';
	my $listen = IO::Socket::INET->new(LocalAddr => '127.0.0.1',
		LocalPort => $self->{port}, Listen => 64, ReuseAddr => 1)
	    or die "port $self->{port}: $!\n";
	my $pid = fork // die "fork: $!\n";
	if ($pid == 0) {
		$SIG{TERM} = 'DEFAULT';
		setpgrp;
		$SIG{CHLD} = 'IGNORE';
		while (1) {
			my $c = $listen->accept or next;
			open my $fh, '>>', "$self->{dir}/count";
			syswrite $fh, '.';
			close $fh;
			next if fork;
			close $listen;
			Time::HiRes::sleep($o{delay}) if $o{delay};
			$self->_serve($c, $mode, %o);
			POSIX::_exit(0);
		}
	}
	$self->{pid} = $pid;
	return $self;
}

sub _serve {
	my ($self, $c, $mode, %o) = @_;
	my ($buf, $record);
	open $record, '>>:raw', "$self->{dir}/record" if $o{record};
	if ($mode eq 'hang') {
		1 while sysread $c, $buf, 65536;
		return;
	}
	if ($says{$mode}) {
		sysread $c, $buf, 65536;
		syswrite $c, $says{$mode};
		return;
	}
	my $up = IO::Socket::INET->new($self->{to}) or return;
	my $select = IO::Select->new($c, $up);
	while (1) {
		for my $from ($select->can_read) {
			my $to = $from == $c ? $up : $c;
			sysread($from, $buf, 65536) or return;
			if ($o{change} && $from == $up) {
				local $_ = $buf;
				$o{change}->();
				$buf = $_;
			}
			syswrite $record, $buf if $record;
			my $at = 0;
			$at += syswrite($to, $buf, length($buf) - $at, $at)
			    // return while $at < length $buf;
		}
	}
}

sub stop_quietly {
	my ($self) = @_;
	return if $self->{owner} != $$ || !$self->{pid};
	kill 'KILL', -$self->{pid}, $self->{pid};
	waitpid $self->{pid}, 0;
	delete $self->{pid};
}

sub DESTROY { local ($?, $!, $@); $_[0]->stop_quietly }

1;
