package localpg

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"

	"golang.org/x/term"
)

// Why Install didn't.
var (
	ErrNoInstaller = errors.New("no package manager known here: install Postgres 15 to 18 yourself, or set FREEHOLD_PG_BIN")
	ErrNotAllowed  = errors.New("FREEHOLD_NO_INSTALL forbids the installation of Postgres")
	ErrDeclined    = errors.New("installation of Postgres declined")
)

// Install installs Postgres with the system's package manager: apt-get, as root
// or with sudo, or Homebrew. It prints the command to out and asks when in is a
// terminal; without one it goes ahead. With FREEHOLD_NO_INSTALL=1 it prints and
// refuses. It returns nil when Find succeeds afterwards.
func Install(ctx context.Context, in io.Reader, out io.Writer) error {
	asks := isTerminal(in)
	command := installCommand(asks)
	if command == nil {
		return ErrNoInstaller
	}
	say(out, "Postgres is needed and not installed. The command for it:\n\n    %s\n\n", shown(command))
	if os.Getenv("FREEHOLD_NO_INSTALL") == "1" {
		return ErrNotAllowed
	}
	if asks {
		say(out, "Run it now? [Y/n] ")
		answer, err := bufio.NewReader(in).ReadString('\n')
		if err != nil {
			return ErrDeclined
		}
		switch strings.ToLower(strings.TrimSpace(answer)) {
		case "", "y", "yes":
		default:
			return ErrDeclined
		}
	}
	cmd := exec.CommandContext(ctx, command[0], command[1:]...)
	cmd.Stdout, cmd.Stderr = out, out
	if asks {
		cmd.Stdin = in
	}
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("install postgres: %s: %w", command[0], err)
	}
	if _, err := Find("psql", "pg_dump"); err != nil {
		return fmt.Errorf("install postgres: the package is installed, but: %w", err)
	}
	return nil
}

// installCommand is nil when there is no way to install.
func installCommand(asks bool) []string {
	switch {
	case have("apt-get"):
		shell := []string{"sh", "-c",
			"apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends postgresql"}
		if os.Geteuid() == 0 {
			return shell
		}
		if !have("sudo") {
			return nil
		}
		if asks {
			return append([]string{"sudo"}, shell...)
		}
		return append([]string{"sudo", "-n"}, shell...) // nobody is there to type a password
	case have("brew"):
		return []string{"brew", "install", "postgresql@17"}
	default:
		return nil
	}
}

// shown is a command as a person would paste it.
func shown(command []string) string {
	words := slices.Clone(command)
	for i, word := range words {
		if strings.ContainsAny(word, " &") {
			words[i] = "'" + word + "'"
		}
	}
	return strings.Join(words, " ")
}

func have(program string) bool {
	_, err := exec.LookPath(program)
	return err == nil
}

func isTerminal(in io.Reader) bool {
	file, ok := in.(*os.File)
	return ok && term.IsTerminal(int(file.Fd()))
}

// say writes to a person; a terminal that is gone is no reason to stop.
func say(out io.Writer, format string, args ...any) { _, _ = fmt.Fprintf(out, format, args...) }
