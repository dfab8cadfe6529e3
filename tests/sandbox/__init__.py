"""
The sandbox: a real Kubernetes control plane without a cluster, for tests and the demo.

Nothing but Python, Go and a loopback interface is needed: the control plane is built once from Go
modules into a cache, started in a temporary directory, and gone with the process that started it.

- `sandbox` ties everything together; most callers need nothing else
- `build` compiles the tools that `go.mod` pins, once
- `supervisor` is the process that owns every other one, and `processes` is how to talk to it
- `controlplane` starts etcd, the API server, the controllers, the scheduler and the fake kubelet
- `stages.yaml` says how the fake kubelet treats pods, `simulation` names the annotations it reads
- `credentials` writes kubeconfigs; `api` is a tiny JSON client; `kubectl` is the real one
- `workloads` deploys, breaks and undoes; `waiting` polls; `audit` reads the API server's log
- `components` runs our own processes with the rights that their ServiceAccounts really have
"""
