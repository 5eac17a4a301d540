"""A Kubernetes cluster of one node on this machine, for tests and trials: `python -m airgap.cluster up`.

Where a cluster can be had otherwise (KUBECONFIG, kind, k3d, minikube) that one is used (`other`). Where nothing can be
downloaded, the control plane is built from its Go modules (`programs`) and runs on Debian's etcd, containerd, runc and
CNI plugins as plain processes of this machine (`own`). Nothing of it survives `down`.
"""
