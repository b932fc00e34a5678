"""The empirical neural tangent kernel of any network, block by block, over the devices of a mesh.

    f, params = functional(model, variables, train=False)
    theta = empirical_ntk(f, params, images)                            # (n, n)
    theta = empirical_ntk(f, params, images, others, outputs='full')    # (n, m, k, k)

    drift = kernel_distance(theta_after, theta_before)
    eta = 1 / largest_eigenvalue(f, params, images)     # of the Gram matrix, (n k, n k)

Theta(x, x') = J(x) J(x')^T, with J(x) of shape (k, P) the derivatives of the k outputs of f by its
P parameters, and f(params, x) as in `ntk.functional`. Two methods give the same numbers:

'jacobian'         holds the Jacobians of two blocks of examples at a time and multiplies them.
                   A block takes block_size * k * P numbers, 4 bytes each in float32, split over
                   the devices. While blocks are multiplied, each of several devices also holds
                   a copy of another's part of one block.
'vector_products'  J(x') (J(x)^T e) for each output e of each example, in reverse and then in
                   forward mode. Each device holds k * P numbers and the activations of one block.
                   Much more arithmetic: what a block of Jacobians costs for each of its examples.
"""

from ntk.empirical.kernel import alignment, empirical_ntk, kernel_distance, largest_eigenvalue

__all__ = ['alignment', 'empirical_ntk', 'kernel_distance', 'largest_eigenvalue']
