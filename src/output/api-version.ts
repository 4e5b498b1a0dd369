/** Of every document and line that sluice prints for programs. What is added to a document later does not change it. */
export const API_VERSION = 'sluice.dev/v1';
