package processes

import (
	"flag"
	"fmt"
	"os"
	"testing"
)

// TestMain is a process of the application if a test has started one.
func TestMain(m *testing.M) {
	flag.Parse()
	if told := os.Getenv(configVariable); told != "" {
		if err := application(told); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	// Most tests wait for a claim to run out.
	if f := flag.Lookup("test.parallel"); f.Value.String() == f.DefValue {
		if err := f.Value.Set("8"); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	os.Exit(m.Run())
}
