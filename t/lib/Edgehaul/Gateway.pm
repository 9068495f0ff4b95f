# Gateway.pm - a gateway box: its gateway.conf, proxy, agent and operator
package Edgehaul::Gateway;
use strict;
use warnings;
use Edgehaul ();
use Edgehaul::Daemon;
use Edgehaul::Raw;

my $count = 0;

# signer (URL), token, name, dir, and conf: { section => { key => value } }
# over the defaults below; a value of undef leaves the line out.
# users: { proxy => { uid, gid }, agent => ... }; programs: a folder with both;
# memory: octets for both daemons and all their children.
sub new {
	my ($class, %o) = @_;
	my $name = $o{name} // 'gw-1';
	my $dir = $o{dir} // Edgehaul->dir('gateway');
	my $self = bless { dir => $dir, name => $name, config =>
		"$dir/gateway.conf", token_file => "$dir/token",
		port => Edgehaul::free_port(), number => ++$count }, $class;
	mkdir "$dir/$_" for qw(state run);
	Edgehaul::spit($self->{token_file}, ($o{token} // 'none') . "\n");
	chmod 0600, $self->{token_file};
	$self->{conf} = {
		gateway => { name => $name, state_dir => "$dir/state",
			run_dir => "$dir/run" },
		listen => { address => "127.0.0.1:$self->{port}" },
		spool => { max_size => '256 MB' },
		signer => { url => $o{signer}, token_file => $self->{token_file} },
		upload => { allow_http => 'yes', allow_private => 'yes' },
		# objects are compared octet by octet; t/70 is about images
		images => { mode => 'off' },
	};
	$self->configure(%{ $o{conf} // {} });
	$o{memory} //= $ENV{EDGEHAUL_MEMORY};
	$self->{memory} = Edgehaul->memory($o{memory}) // die
	    "$Edgehaul::Memory::why\n" if $o{memory};
	$self->{$_} = $self->_daemon($_, %o) for qw(proxy agent);
	return $self;
}

sub _daemon {
	my ($self, $short, %o) = @_;
	my $suffix = $self->{number} > 1 ? "-$self->{number}" : '';
	return Edgehaul::Daemon->new(name => "$short$suffix", short => $short,
		dir => $self->{dir}, program => $o{programs}
		    ? "$o{programs}/edgehaul-$short"
		    : Edgehaul::top_builddir() . "/$short/edgehaul-$short",
		args => ['--config', $self->{config}],
		memory => $self->{memory},
		%{ $o{users}{$short} // {} });
}

# Change settings and write the file (say `hup` to the daemons to use it).
sub configure {
	my ($self, %change) = @_;
	for my $section (keys %change) {
		my $to = $self->{conf}{$section} //= {};
		$to->{$_} = $change{$section}{$_}
		    for keys %{ $change{$section} };
	}
	my $text = '';
	for my $section (sort keys %{ $self->{conf} }) {
		my $s = $self->{conf}{$section};
		$text .= "[$section]\n" . join '',
		    map { "$_ = $s->{$_}\n" }
		    grep { defined $s->{$_} } sort keys %$s;
	}
	Edgehaul::spit($self->{config}, $text);
	return $self;
}

sub proxy { $_[0]{proxy} }
sub agent { $_[0]{agent} }
sub lan { "127.0.0.1:$_[0]{port}" }
sub url { 'http://' . $_[0]->lan . ($_[1] // '') }
sub spool { "$_[0]{dir}/state/spool" }

# One upload on a connection of its own: the answer, or undef. from: the
# address to send from.
sub put {
	my ($self, $path, $body, %o) = @_;
	my $c = Edgehaul::Raw->new($self->lan, from => $o{from})
	    or return undef;
	return $c->put($path, $body, %o);
}

sub get {
	my ($self, $path) = @_;
	return Edgehaul::http('GET', $self->url($path));
}

# The operator's tool: (exit status, stdout, stderr).
sub ctl {
	my ($self, @args) = @_;
	return Edgehaul::Daemon->run(
		Edgehaul::top_builddir() . '/ctl/edgehaul',
		'--config', $self->{config}, @args);
}

sub queue_ls {
	my ($self) = @_;
	my ($rc, $out, $err) = $self->ctl('queue', 'ls', '--json');
	die "queue ls: exit $rc\n$out$err" if $rc != 0;
	return map { Edgehaul::json_decode($_) } split /\n/, $out;
}

sub status {
	my ($self) = @_;
	my ($rc, $out, $err) = $self->ctl('status', '--json');
	return eval { Edgehaul::json_decode($out) } // { error => $err };
}

sub ledger { $_[0]->status->{ledger} }

# The ledger's equation (DESIGN 3.2): '' or what is wrong with it.
sub unbalanced {
	my ($self) = @_;
	my $l = $self->ledger or return 'no ledger';
	my $sum = 0;
	for (qw(delivered expired evicted dropped quarantined waiting)) {
		return "no $_ in the ledger" if !defined $l->{$_};
		$sum += $l->{$_};
	}
	return $sum == $l->{accepted} ? ''
	    : 'accepted is not the sum: ' . Edgehaul::json_encode($l);
}

# Wait until nothing waits any more (and, if given, n were delivered).
sub drained {
	my ($self, $secs, $n) = @_;
	return Edgehaul::wait_for(sub {
		my $l = eval { $self->ledger } or return 0;
		return 0 if ($l->{waiting} // 1) != 0;
		return !defined $n || $l->{delivered} >= $n;
	}, $secs // 20);
}

1;
